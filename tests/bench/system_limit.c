/* The limit: a relay of one thread that hands on bytes and looks at none (relay.c), and the list of all
 * systems. */
#include <stdio.h>
#include <string.h>

#include "tests/bench/run.h"
#include "tests/bench/system.h"
#include "tests/bench/wire.h"

const struct system *const systems[] = { &system_limit,      &system_gimuxd, &system_gimuxd_process,
                                         &system_gimuxd_tls, &system_redis,  &system_nats,
                                         &system_jetstream,  &system_zeromq, NULL };

bool
system_is_there(const struct system *system, const char *programs)
{
    char path[PROCESS_PATH_MAX];

    if (!system->program)
        return true;
    if (system->program[0] != '@')
        return process_exists(system->program);
    return snprintf(path, sizeof(path), "%s/%s", programs, system->program + 1) < (int)sizeof(path) &&
           process_exists(path);
}

static bool
start(struct run *run)
{
    char program[PROCESS_PATH_MAX], port[16], receivers[16];
    const char *const argv[] = { program, run->socket, port, receivers, NULL };

    snprintf(program, sizeof(program), "%s/relay", run->conf->programs);
    snprintf(port, sizeof(port), "%u", run->port);
    snprintf(receivers, sizeof(receivers), "%u", run->conf->receivers);
    return process_start(&run->process, argv);
}

static bool
join_receiver(struct run *run, struct receiver *receiver)
{
    receiver->fd = wire_dial_tcp(run->port);
    return receiver->fd >= 0;
}

static bool
join_producer(struct run *run, struct producer *producer)
{
    producer->fd = wire_dial_unix(run->socket);
    return producer->fd >= 0;
}

/* Records say how long they are. */
static size_t
take(struct receiver *receiver, const uint8_t *data, size_t len)
{
    uint64_t count = atomic_load_explicit(&receiver->count, memory_order_relaxed);
    size_t used = 0;

    while (len - used >= GR_HEADER_SIZE) {
        uint32_t size;

        memcpy(&size, data + used, sizeof(size));
        if (size < GR_HEADER_SIZE || size > MIX_RECORD_MAX) {
            receiver->wrong = "bytes that are not a record";
            break;
        }
        if (size > len - used)
            break;
        system_record(receiver, data + used, &count);
        used += size;
    }
    atomic_store_explicit(&receiver->count, count, memory_order_relaxed);
    return used;
}

const struct system system_limit = { .name = "limit",
                                     .text = "a relay of one thread that looks at nothing",
                                     .program = "@relay",
                                     .start = start,
                                     .join_receiver = join_receiver,
                                     .join_producer = join_producer,
                                     .wrap = system_wrap_nothing,
                                     .take = take };
