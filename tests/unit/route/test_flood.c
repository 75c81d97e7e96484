/* Floods: who is named, who is not, and when it ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "mux/base/log.h"
#include "mux/route/inner.h"
#include "mux/vmlog/inner.h"

#define VMS   41
#define LOOK  10000 /* ms */
#define QUIET 110   /* records a second */

struct world {
    struct vmlog_pool pool;
    struct vm_table *table;
    struct conf_limits limits;
    struct vm *vms[VMS];
};

static struct world *
open_world(unsigned vms)
{
    struct world *world = calloc(1, sizeof(*world));

    assert_non_null(world);
    log_setup(false, LOG_LEVEL_ERROR);
    world->table = vm_table_new(&world->pool, &route_table_ops);
    assert_non_null(world->table);
    world->table->limit = VMS;
    world->limits = (struct conf_limits){ .flood_records = 1000, .flood_factor = 10 };
    for (unsigned i = 0; i < vms; i++) {
        uint8_t uuid[GR_UUID_SIZE] = { 1, (uint8_t)i };

        world->vms[i] = vm_add(world->table, uuid);
    }
    return world;
}

static void
close_world(struct world *world)
{
    vm_table_free(world->table);
    free(world);
}

/* What the drivers of a VM send until the next look. */
static void
sends(struct world *world, unsigned vm, uint64_t records_a_second, uint64_t bytes_a_second)
{
    route_vm(world->vms[vm])->traffic.records += records_a_second * LOOK / 1000;
    route_vm(world->vms[vm])->traffic.bytes += bytes_a_second * LOOK / 1000;
}

static void
others_send(struct world *world, unsigned vms, uint64_t rate)
{
    for (unsigned i = 1; i < vms; i++)
        sends(world, i, rate, rate * 200);
}

/* How many are flooding after a look. */
static unsigned
look_once(struct world *world)
{
    unsigned count = 0;

    flood_look(world->table, &world->limits, LOOK);
    for (unsigned i = 0; i < VMS; i++)
        count += world->vms[i] && route_vm(world->vms[i])->traffic.flooding;
    return count;
}

static void
test_one_at_a_hundred_times_the_rate_of_the_others(void **state)
{
    struct world *world = open_world(VMS);

    (void)state;
    others_send(world, VMS, QUIET);
    sends(world, 0, QUIET * 100, QUIET * 100 * 200);
    assert_int_equal(look_once(world), 1);
    assert_true(route_vm(world->vms[0])->traffic.flooding);
    others_send(world, VMS, QUIET);
    sends(world, 0, QUIET, QUIET * 200);
    assert_int_equal(look_once(world), 0);
    close_world(world);
}

/* Everybody is busy: a hundred times the floor, and yet no flood. */
static void
test_all_busy_alike(void **state)
{
    struct world *world = open_world(VMS);

    (void)state;
    others_send(world, VMS, 100000);
    sends(world, 0, 900000, 900000 * 200);
    assert_int_equal(look_once(world), 0);
    others_send(world, VMS, 100000);
    sends(world, 0, 1000000, 900000 * 200);
    assert_int_equal(look_once(world), 1);
    close_world(world);
}

/* A hundred times of little is little. */
static void
test_below_the_floor(void **state)
{
    struct world *world = open_world(VMS);

    (void)state;
    others_send(world, VMS, 9);
    sends(world, 0, 999, 999);
    assert_int_equal(look_once(world), 0);
    others_send(world, VMS, 9);
    sends(world, 0, 1000, 1000);
    assert_int_equal(look_once(world), 1);
    close_world(world);
}

/* Few records, and long ones. */
static void
test_bytes(void **state)
{
    struct world *world = open_world(VMS);

    (void)state;
    others_send(world, VMS, 10);
    sends(world, 0, 4, 999 * 1024);
    assert_int_equal(look_once(world), 0);
    others_send(world, VMS, 10);
    sends(world, 0, 4, 1000 * 1024);
    assert_int_equal(look_once(world), 1);
    close_world(world);
}

/* A VM whose rate sways about the limit is named once; it is below half when that ends. */
static void
test_hysteresis(void **state)
{
    struct world *world = open_world(VMS);

    (void)state;
    for (int i = 0; i < 3; i++) {
        others_send(world, VMS, QUIET);
        sends(world, 0, QUIET * (i == 0 ? 10 : 5), 0);
        assert_int_equal(look_once(world), 1);
    }
    others_send(world, VMS, QUIET);
    sends(world, 0, QUIET * 5 - 1, 0);
    assert_int_equal(look_once(world), 0);
    others_send(world, VMS, QUIET);
    sends(world, 0, QUIET * 5, 0);
    assert_int_equal(look_once(world), 0);
    close_world(world);
}

/* The idle ones say nothing about what is usual; where all others are idle the floor alone decides. */
static void
test_idle_vms(void **state)
{
    struct world *world = open_world(VMS);

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        sends(world, i, 20000, 0);
    assert_int_equal(look_once(world), 0);
    sends(world, 7, 20000, 0);
    assert_int_equal(look_once(world), 1);
    assert_int_equal(look_once(world), 0);
    close_world(world);
}

static void
test_two_vms_and_one_alone(void **state)
{
    struct world *world = open_world(2);

    (void)state;
    sends(world, 0, 5000, 0);
    sends(world, 1, 500, 0);
    assert_int_equal(look_once(world), 1);
    close_world(world);
    world = open_world(1);
    sends(world, 0, 1000000, 0);
    assert_int_equal(look_once(world), 0); /* whom should it flood? */
    close_world(world);
    world = open_world(0);
    assert_int_equal(look_once(world), 0);
    close_world(world);
}

/* Less than half of them flood: all these are named. */
static void
test_several(void **state)
{
    struct world *world = open_world(VMS);

    (void)state;
    others_send(world, VMS, QUIET);
    for (unsigned i = 0; i < 19; i++)
        sends(world, i, QUIET * 100, 0);
    assert_int_equal(look_once(world), 19);
    close_world(world);
}

static void
test_paused_is_not_ended(void **state)
{
    struct world *world = open_world(VMS);

    (void)state;
    others_send(world, VMS, QUIET);
    sends(world, 0, QUIET * 100, 0);
    assert_int_equal(look_once(world), 1);
    route_vm(world->vms[0])->paused = true;
    others_send(world, VMS, QUIET);
    assert_int_equal(look_once(world), 1);
    route_vm(world->vms[0])->paused = false;
    others_send(world, VMS, QUIET);
    assert_int_equal(look_once(world), 0);
    close_world(world);
}

static void
test_switched_off(void **state)
{
    struct world *world = open_world(VMS);

    (void)state;
    world->limits.flood_records = 0;
    others_send(world, VMS, QUIET);
    sends(world, 0, UINT32_MAX, UINT32_MAX);
    assert_int_equal(look_once(world), 0);
    close_world(world);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_at_a_hundred_times_the_rate_of_the_others),
        cmocka_unit_test(test_all_busy_alike),
        cmocka_unit_test(test_below_the_floor),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_hysteresis),
        cmocka_unit_test(test_idle_vms),
        cmocka_unit_test(test_two_vms_and_one_alone),
        cmocka_unit_test(test_several),
        cmocka_unit_test(test_paused_is_not_ended),
        cmocka_unit_test(test_switched_off),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
