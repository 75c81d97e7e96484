/* The sample SVM: prints what gimuxd sends, and counts it. */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "client/gimux_client.h"
#include "tools/svm_tail_count.h"
#include "tools/svm_tail_event.h"

#define CLASS_MAX 16 /* --class */

enum ack_mode { ACK_AUTO, ACK_EXPLICIT, ACK_NEVER };

struct tail {
    struct gimux_client *client;
    struct count count;
    uint64_t events; /* all, those that came again included */
    bool done;

    bool json, quiet;
    enum ack_mode ack;
    uint64_t events_max; /* 0: no end */
    unsigned slow_ms;    /* per event */
    const char *stats_path;
    FILE *capture;
};

/* ---- what the library calls ---- */

static void
acknowledge(struct tail *tail, struct gimux_stream *stream, uint64_t sequence)
{
    if (tail->ack != ACK_EXPLICIT)
        return;
    fflush(stdout); /* an event counts as received once it is written */
    gimux_client_ack(tail->client, stream, sequence);
}

static void
on_event(void *user, const struct gimux_event *event)
{
    struct tail *tail = user;
    struct timespec pause = { tail->slow_ms / 1000, (long)(tail->slow_ms % 1000) * 1000000 };

    count_event(&tail->count, event);
    if (!tail->quiet)
        (tail->json ? print_event_json : print_event_text)(event);
    if (tail->slow_ms)
        nanosleep(&pause, NULL);
    acknowledge(tail, event->stream, event->sequence);
    if (++tail->events == tail->events_max) {
        tail->done = true;
        gimux_client_stop(tail->client);
    }
}

static void
on_gap(void *user, const struct gimux_gap *gap)
{
    struct tail *tail = user;
    uint64_t first;

    if (count_gap(&tail->count, gap, &first) && !tail->quiet)
        (tail->json ? print_gap_json : print_gap_text)(gap, first);
    acknowledge(tail, gap->stream, gap->last);
}

static void
on_stream_start(void *user, const struct gimux_connection *connection, struct gimux_stream *stream,
                uint64_t first_sequence)
{
    struct tail *tail = user;

    (void)connection;
    (void)first_sequence;
    count_start(&tail->count, stream);
}

static void
on_progress(void *user, struct gimux_stream *stream, uint64_t sequence, uint64_t filtered)
{
    struct tail *tail = user;

    count_progress(&tail->count, stream, sequence, filtered);
}

static void
on_stream_end(void *user, struct gimux_stream *stream, uint64_t last_sequence)
{
    struct tail *tail = user;

    (void)last_sequence;
    count_end(&tail->count, stream);
}

static void
on_frame(void *user, const struct gimux_connection *connection, const uint8_t *bytes, size_t len)
{
    struct tail *tail = user;

    (void)connection;
    if (tail->capture)
        fwrite(bytes, 1, len, tail->capture);
}

static void
on_log(void *user, enum gimux_level level, const char *text)
{
    (void)user;
    (void)level;
    fprintf(stderr, "svm-tail: ");
    print_text(stderr, text);
    fprintf(stderr, "\n");
}

/* ---- options ---- */

static const char usage[] =
    "usage: svm-tail --listen ADDRESS [OPTION]...\n"
    "Listens as an SVM for gimuxd and prints its events. ADDRESS is tcp:HOST:PORT or tls:HOST:PORT.\n"
    "  --cert FILE --key FILE --ca FILE   for tls: own certificate and key, CA of gimuxd's certificate\n"
    "  --crl FILE         for tls: revocation lists to check gimuxd's certificate against\n"
    "  --peer-name NAME   for tls: gimuxd's certificate must bear that name (repeatable)\n"
    "  --name NAME        the SVM's name, for gimuxd's logs\n"
    "  --class LIST       only these classes: file,process,power,authentication,network,dns,lifecycle\n"
    "  --vm UUID          only this VM (repeatable)\n"
    "  --mute PREFIX      no file events whose path begins with PREFIX (repeatable)\n"
    "  --ack MODE         auto (default); explicit: after each line is written; never\n"
    "  --json             JSON lines\n"
    "  --quiet            print no events and no table\n"
    "  --count N          end after N events\n"
    "  --slow MS          sleep MS milliseconds after every event\n"
    "  --stats FILE       write the counts to FILE, as JSON, at the end and on SIGUSR1\n"
    "  --capture FILE     append every frame as it came (length-delimited gimux.v1.Frame)\n"
    "SIGTERM and SIGINT end it; SIGHUP reads the certificate, key, CA and revocation list files again.\n";

enum option_code {
    LISTEN = 1,
    CERT,
    KEY,
    CA,
    CRL,
    NAME,
    CLASS,
    VM,
    MUTE,
    ACK,
    JSON,
    QUIET,
    COUNT,
    SLOW,
    STATS,
    CAPTURE,
    PEER_NAME,
    HELP
};

static const struct option options[] = {
    { "listen", required_argument, NULL, LISTEN },
    { "cert", required_argument, NULL, CERT },
    { "key", required_argument, NULL, KEY },
    { "ca", required_argument, NULL, CA },
    { "crl", required_argument, NULL, CRL },
    { "name", required_argument, NULL, NAME },
    { "class", required_argument, NULL, CLASS },
    { "vm", required_argument, NULL, VM },
    { "mute", required_argument, NULL, MUTE },
    { "ack", required_argument, NULL, ACK },
    { "json", no_argument, NULL, JSON },
    { "quiet", no_argument, NULL, QUIET },
    { "count", required_argument, NULL, COUNT },
    { "slow", required_argument, NULL, SLOW },
    { "stats", required_argument, NULL, STATS },
    { "capture", required_argument, NULL, CAPTURE },
    { "peer-name", required_argument, NULL, PEER_NAME },
    { "help", no_argument, NULL, HELP },
    { NULL, 0, NULL, 0 },
};

/* What the options say, next to struct tail. */
struct lists {
    uint32_t classes[CLASS_MAX];
    const char **vms, **mutes, **peer_names; /* room for one for each argument */
};

static void __attribute__((noreturn, format(printf, 1, 2))) fail_usage(const char *format, ...)
{
    va_list args;

    fprintf(stderr, "svm-tail: ");
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fprintf(stderr, "\n");
    exit(2);
}

static uint64_t
parse_number(const char *option, const char *text, uint64_t max)
{
    char *end;
    unsigned long long value;

    errno = 0;
    value = strtoull(text, &end, 10);
    if (errno || *end || text[0] < '0' || text[0] > '9' || value > max)
        fail_usage("--%s %s: expected a number up to %" PRIu64, option, text, max);
    return value;
}

static void
parse_classes(struct gimux_client_config *config, struct lists *lists, char *text)
{
    for (char *rest, *name = strtok_r(text, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        uint32_t uid = gimux_client_class_by_name(name);

        if (!uid || config->class_uid_count == CLASS_MAX)
            fail_usage("--class %s: expected file, process, power, authentication, network, dns or lifecycle",
                       name);
        lists->classes[config->class_uid_count++] = uid;
    }
}

static enum ack_mode
parse_ack(const char *text)
{
    if (strcmp(text, "auto") == 0)
        return ACK_AUTO;
    if (strcmp(text, "explicit") == 0)
        return ACK_EXPLICIT;
    if (strcmp(text, "never") == 0)
        return ACK_NEVER;
    fail_usage("--ack %s: expected auto, explicit or never", text);
}

static void
take_option(int code, struct tail *tail, struct gimux_client_config *config, struct lists *lists)
{
    const char **texts[] = {
        [LISTEN] = &config->listen, [CERT] = &config->cert_file, [KEY] = &config->key_file,
        [CA] = &config->ca_file,    [CRL] = &config->crl_file,   [NAME] = &config->name,
        [STATS] = &tail->stats_path
    };

    switch (code) {
    case LISTEN:
    case CERT:
    case KEY:
    case CA:
    case CRL:
    case NAME:
    case STATS:
        *texts[code] = optarg;
        break;
    case CLASS:
        parse_classes(config, lists, optarg);
        break;
    case VM:
        lists->vms[config->vm_uuid_count++] = optarg;
        break;
    case MUTE:
        lists->mutes[config->muted_path_prefix_count++] = optarg;
        break;
    case PEER_NAME:
        lists->peer_names[config->peer_name_count++] = optarg;
        break;
    case ACK:
        tail->ack = parse_ack(optarg);
        break;
    case JSON:
        tail->json = true;
        break;
    case QUIET:
        tail->quiet = true;
        break;
    case COUNT:
        tail->events_max = parse_number("count", optarg, UINT64_MAX);
        break;
    case SLOW:
        tail->slow_ms = (unsigned)parse_number("slow", optarg, 3600000);
        break;
    case CAPTURE:
        tail->capture = fopen(optarg, "abe");
        if (!tail->capture)
            fail_usage("cannot write %s: %s", optarg, strerror(errno));
        break;
    case HELP:
        fputs(usage, stdout);
        exit(0);
    default:
        fputs(usage, stderr);
        exit(2);
    }
}

/* ---- the loop ---- */

static void
write_stats(const struct tail *tail)
{
    if (tail->capture)
        fflush(tail->capture);
    if (tail->stats_path && !count_write(&tail->count, tail->client, tail->stats_path))
        fprintf(stderr, "svm-tail: cannot write %s: %s\n", tail->stats_path, strerror(errno));
}

static void
take_signal(struct tail *tail, int signals)
{
    struct signalfd_siginfo info;
    char error[GIMUX_ERROR_MAX];

    if (read(signals, &info, sizeof(info)) != sizeof(info))
        return;
    if (info.ssi_signo == SIGUSR1)
        write_stats(tail);
    else if (info.ssi_signo != SIGHUP)
        tail->done = true;
    else if (gimux_client_reload_certificates(tail->client, error))
        fprintf(stderr, "svm-tail: certificates read again\n");
    else
        fprintf(stderr, "svm-tail: certificates kept: %s\n", error);
}

/* Returns the exit status. */
static int
loop(struct tail *tail, int signals)
{
    struct pollfd fds[] = { { .fd = gimux_client_fd(tail->client), .events = POLLIN },
                            { .fd = signals, .events = POLLIN } };

    while (!tail->done) {
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return 1;
        if (fds[1].revents)
            take_signal(tail, signals);
        else if (fds[0].revents && gimux_client_dispatch(tail->client, 0) != 0)
            return 1;
        fflush(stdout);
    }
    write_stats(tail);
    if (!tail->quiet)
        count_print(&tail->count, stderr);
    return 0;
}

/* Signals are read from a descriptor. */
static int
open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGHUP);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int
main(int argc, char **argv)
{
    static const struct gimux_client_callbacks callbacks = { .on_event = on_event,
                                                             .on_gap = on_gap,
                                                             .on_stream_start = on_stream_start,
                                                             .on_progress = on_progress,
                                                             .on_stream_end = on_stream_end,
                                                             .on_frame = on_frame,
                                                             .on_log = on_log };
    struct tail tail = { 0 };
    struct lists lists = { .vms = calloc((size_t)argc, sizeof(char *)),
                           .mutes = calloc((size_t)argc, sizeof(char *)),
                           .peer_names = calloc((size_t)argc, sizeof(char *)) };
    struct gimux_client_config config = { .name = "svm-tail", .callbacks = &callbacks, .user = &tail };
    char error[GIMUX_ERROR_MAX];
    int signals = open_signals();
    int code, status;

    while ((code = getopt_long(argc, argv, "", options, NULL)) != -1)
        take_option(code, &tail, &config, &lists);
    if (optind < argc)
        fail_usage("%s: expected options only, see --help", argv[optind]);
    if (!config.listen)
        fail_usage("--listen is missing, see --help");
    config.class_uids = lists.classes;
    config.vm_uuids = lists.vms;
    config.muted_path_prefixes = lists.mutes;
    config.peer_names = lists.peer_names;
    config.explicit_ack = tail.ack != ACK_AUTO;
    tail.client = gimux_client_new(&config, error);
    free(lists.vms);
    free(lists.mutes);
    free(lists.peer_names);
    if (!tail.client)
        fail_usage("%s", error);
    fprintf(stderr, "listening on %s\n", gimux_client_address(tail.client));
    status = loop(&tail, signals);
    gimux_client_free(tail.client);
    count_free(&tail.count);
    if (tail.capture)
        fclose(tail.capture);
    close(signals);
    return status;
}
