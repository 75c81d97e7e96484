/* An SVM of chaos: a client of the library behind a relay, that enters all it is told into the ledger. */
#include "tests/chaos/svm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- streams ---- */

static void
on_stream_start(void *user, const struct gimux_connection *connection, struct gimux_stream *stream,
                uint64_t first)
{
    struct svm *svm = user;
    struct told *told = stream->user;
    uint32_t vm, boot;

    (void)connection;
    (void)first;
    if (told && svm->explicit_ack) { /* what was not acknowledged comes again */
        if (told->of)
            ledger_again(told->of, &svm->reader, told->acked);
        if (told->last > told->acked)
            told->last = told->acked;
    }
    if (told)
        return;
    told = calloc(1, sizeof(*told));
    if (!told)
        abort();
    stream->user = told;
    told->stream = stream;
    told->next = svm->told;
    svm->told = told;
    if (stream->driver == GIMUX_DRIVER_GIMUXD)
        return;
    if (event_parse_ids(stream->vm_uuid, stream->boot_id, &vm, &boot))
        told->of = svm->find(svm->arg, vm, boot, (uint16_t)stream->driver);
    if (!told->of)
        tally_add(svm->reader.tally, WRONG_UNACCOUNTED, 1, "SVM %s: a stream that nobody made: %s %s %s",
                  svm->conf.name, stream->vm_uuid, gimux_client_driver_name(stream->driver), stream->boot_id);
}

static void
on_stream_forget(void *user, struct gimux_stream *stream)
{
    struct svm *svm = user;

    for (struct told **at = &svm->told; *at; at = &(*at)->next) {
        if (*at == stream->user) {
            *at = (*at)->next;
            break;
        }
    }
    free(stream->user);
    stream->user = NULL;
}

static void
acknowledge(struct svm *svm, struct told *told, uint64_t sequence)
{
    told->last = sequence;
    if (!svm->explicit_ack || svm->holds)
        return;
    if (gimux_client_ack(svm->client, told->stream, sequence) != 0)
        tally_add(svm->reader.tally, WRONG_UNACCOUNTED, 1, "SVM %s: the library refuses an ack of %llu",
                  svm->conf.name, (unsigned long long)sequence);
    told->acked = sequence;
}

void
svm_release(struct svm *svm)
{
    svm->holds = false;
    if (!svm->explicit_ack)
        return;
    for (struct told *told = svm->told; told; told = told->next)
        if (told->last > told->acked)
            acknowledge(svm, told, told->last);
}

/* ---- events and gaps ---- */

/* gimuxd's own events: who made them is not here, but within a life of the client there is no hole. */
static void
tell_own(struct svm *svm, const struct told *told, uint64_t first)
{
    if (told->last > 0 && first > told->last + 1)
        tally_add(svm->reader.tally, WRONG_LOST, first - told->last - 1,
                  "SVM %s: gimuxd's own stream of VM %s: %llu after %llu", svm->conf.name,
                  told->stream->vm_uuid, (unsigned long long)first, (unsigned long long)told->last);
    if (first <= told->last)
        tally_add(svm->reader.tally, WRONG_DOUBLED, 1,
                  "SVM %s: gimuxd's own stream of VM %s: %llu after %llu", svm->conf.name,
                  told->stream->vm_uuid, (unsigned long long)first, (unsigned long long)told->last);
}

static void
on_event(void *user, const struct gimux_event *event)
{
    struct svm *svm = user;
    struct told *told = event->stream->user;

    if (told->of) {
        ledger_event(told->of, &svm->reader, event);
    } else {
        svm->own_events++;
        tell_own(svm, told, event->sequence);
    }
    acknowledge(svm, told, event->sequence);
}

static void
on_gap(void *user, const struct gimux_gap *gap)
{
    struct svm *svm = user;
    struct told *told = gap->stream->user;

    if (told->of)
        ledger_gap(told->of, &svm->reader, gap);
    else
        tell_own(svm, told, gap->first);
    acknowledge(svm, told, gap->last);
}

/* ---- a life ---- */

void
svm_start(struct svm *svm, bool explicit_ack)
{
    static const struct gimux_client_callbacks callbacks = { .on_stream_start = on_stream_start,
                                                             .on_stream_forget = on_stream_forget,
                                                             .on_event = on_event,
                                                             .on_gap = on_gap };
    static const char *const muted[] = { EVENT_MUTED_WINDOWS };
    struct gimux_client_config config = { .callbacks = &callbacks,
                                          .user = svm,
                                          .explicit_ack = explicit_ack };
    char listen[64], cert[512], key[512], ca[512];
    char error[GIMUX_ERROR_MAX];

    if (svm->conf.mutes) {
        config.muted_path_prefixes = muted;
        config.muted_path_prefix_count = 1;
    }
    snprintf(listen, sizeof(listen), "%s:%s:0", svm->conf.tls ? "tls" : "tcp", relay_host());
    config.listen = listen;
    if (svm->conf.tls) {
        snprintf(cert, sizeof(cert), "%s/svm.pem", svm->certificates);
        snprintf(key, sizeof(key), "%s/svm.key", svm->certificates);
        snprintf(ca, sizeof(ca), "%s/ca.pem", svm->certificates);
        config.cert_file = cert;
        config.key_file = key;
        config.ca_file = ca;
    }
    config.name = svm->conf.name;
    svm->for_each(svm->arg, ledger_new_life, &svm->reader);
    svm->explicit_ack = explicit_ack;
    svm->holds = svm->stopped = false;
    svm->lives++;
    svm->client = gimux_client_new(&config, error);
    if (!svm->client) {
        fprintf(stderr, "chaos: SVM %s: %s\n", svm->conf.name, error);
        abort();
    }
    svm->relay.target = (uint16_t)strtoul(strrchr(gimux_client_address(svm->client), ':') + 1, NULL, 10);
}

/* What the library itself found wrong with gimuxd. */
static void
count_protocol_errors(const struct svm *svm)
{
    struct gimux_client_stats stats;

    gimux_client_get_stats(svm->client, &stats);
    tally_add(svm->reader.tally, WRONG_REORDERED, stats.out_of_order,
              "SVM %s: the library closed connections for frames behind what had been told", svm->conf.name);
    tally_add(svm->reader.tally, WRONG_UNACCOUNTED, stats.protocol_errors - stats.out_of_order,
              "SVM %s: the library closed connections for protocol errors", svm->conf.name);
}

void
svm_kill(struct svm *svm, bool reset)
{
    if (!svm->client)
        return;
    relay_cut(&svm->relay, reset);
    svm->relay.target = 0;
    count_protocol_errors(svm);
    svm->explicit_ack = false; /* nothing more is acknowledged */
    gimux_client_free(svm->client);
    svm->client = NULL;
}

void
svm_turn(struct svm *svm)
{
    if (svm->client && !svm->stopped)
        gimux_client_dispatch(svm->client, 0);
}
