/* The world of a scenario: one gimuxd, the drivers of some VMs, up to four SVMs, and the loop that runs them
 * all. */
#ifndef GIMUX_CHAOS_WORLD_H
#define GIMUX_CHAOS_WORLD_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/chaos/daemon.h"
#include "tests/chaos/driver.h"
#include "tests/chaos/pki.h"
#include "tests/chaos/svm.h"
#include "tests/chaos/tally.h"

#define WORLD_VMS_MAX     64
#define WORLD_DRIVERS_MAX (WORLD_VMS_MAX * 2)

/* What a scenario asks for. */
struct world_conf {
    unsigned vms; /* every other one Windows, with two drivers, else linux, with one */
    unsigned svm_count;
    struct svm_conf svms[LEDGER_SVMS];
    unsigned rate;        /* events a second, all drivers together */
    bool storage;         /* storage.dir is set */
    const char *limits;   /* lines of the section limits */
    const char *top;      /* lines outside of any section */
    const char *preload;  /* library for gimuxd's LD_PRELOAD, or NULL */
    unsigned gap_reasons; /* bits that every SVM may see, whatever its policy */
};

struct world {
    struct world_conf conf;
    struct daemon daemon;
    struct pki *pki; /* if an SVM wants TLS */
    struct tally tally;
    struct svm svms[LEDGER_SVMS];
    struct driver *drivers;
    unsigned driver_count;
    char socket[DAEMON_PATH_MAX];
    bool makes;      /* events happen */
    int64_t made_at; /* up to when they have */
    uint64_t made;   /* all events */
    uint64_t crashes;
    bool expect_end; /* gimuxd's end is the scenario's doing */
    bool counts;     /* gimuxd's counters must agree when all is settled: it was not restarted */
};

/* Set by SIGINT and SIGTERM: everything ends soon. */
extern volatile bool world_interrupted;

/* Makes the private directory, the certificates and the configuration, and starts SVMs and gimuxd. False with
 * a message if that fails; world_close is needed all the same. */
bool world_open(struct world *world, const struct world_conf *conf, const char *program);

/* Ends everything; the directory stays if `keep`. */
void world_close(struct world *world, bool keep);

/* What gimuxd had acknowledged it may have forgotten when it comes up again: see ledger_forgets. */
void world_forgets(struct world *world, bool full);

/* Writes gimuxd.conf again, as it is now. */
bool world_write_conf(const struct world *world);

/* One turn of the loop, at most `wait` ms. */
void world_turn(struct world *world, int wait);

/* Turns for `ms`. */
void world_run(struct world *world, int64_t ms);

/* Turns until the condition holds; false if it did not within `seconds`. */
bool world_wait(struct world *world, bool (*condition)(struct world *world), unsigned seconds);

/* Kills gimuxd. Nothing else turns until all of it is gone. */
void world_kill(struct world *world, enum daemon_part part);

/* gimuxd was killed: starts it again. */
void world_restart(struct world *world);

/* Stops making events, waits until all is settled, compares everything, and makes events again. False if
 * something was not settled in time. */
bool world_settle(struct world *world);

struct driver *world_any_driver(struct world *world);
struct svm *world_any_svm(struct world *world);

/* The stream of that driver, or NULL; `world` is a struct world. */
struct stream *world_find_stream(void *world, uint32_t vm, uint32_t boot, uint16_t kind);

/* One VM at random boots again; all must be settled. */
void world_boot_a_vm(struct world *world);

#endif
