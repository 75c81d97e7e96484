/* The smallest SVM: listens on the address given, prints every event and every gap.
 *
 *     svm-minimal tcp:127.0.0.1:4000 */
#include <inttypes.h>
#include <stdio.h>

#include <gimux_client.h>

static void
print_event(void *user, const struct gimux_event *event)
{
    (void)user;
    printf("%s %s %" PRIu64 " %s %s", event->stream->vm_uuid, gimux_client_driver_name(event->stream->driver),
           event->sequence, gimux_client_class_name(event->class_uid),
           gimux_client_activity_name(event->class_uid, event->activity_id));
    if (event->file)
        printf(" %s", event->file->path); /* a guest chose this text: escape it before it meets a terminal */
    printf("\n");
}

static void
print_gap(void *user, const struct gimux_gap *gap)
{
    (void)user;
    printf("%s %s %" PRIu64 "-%" PRIu64 " missing: %s\n", gap->stream->vm_uuid,
           gimux_client_driver_name(gap->stream->driver), gap->first, gap->last,
           gimux_client_gap_name(gap->reason));
}

static void
print_log(void *user, enum gimux_level level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "svm-minimal: %s\n", text);
}

int
main(int argc, char **argv)
{
    struct gimux_client_callbacks callbacks = { .on_event = print_event,
                                                .on_gap = print_gap,
                                                .on_log = print_log };
    struct gimux_client_config config = { .listen = argc > 1 ? argv[1] : "tcp:127.0.0.1:0",
                                          .name = "svm-minimal",
                                          .callbacks = &callbacks };
    char error[GIMUX_ERROR_MAX];
    struct gimux_client *client = gimux_client_new(&config, error);

    if (!client) {
        fprintf(stderr, "svm-minimal: %s\n", error);
        return 1;
    }
    setlinebuf(stdout);
    fprintf(stderr, "listening on %s\n", gimux_client_address(client));
    gimux_client_run(client);
    gimux_client_free(client);
    return 0;
}
