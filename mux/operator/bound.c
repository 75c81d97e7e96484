/* The bound of memory that the configuration adds up to, which is printed at start and shown by /metrics. */
#include "mux/operator/bound.h"

#include "mux/guest/guest.h"
#include "mux/route/route.h"
#include "mux/svm/svm.h"

uint64_t
memory_bound(const struct conf *conf)
{
    return route_memory_bound(conf) + guest_memory_bound(conf) + svm_memory_bound();
}
