/* Counters of the whole daemon: one list of name, kind and help, from which the struct, /metrics and docs
 * come. */
#include "mux/base/stats.h"

struct stats stats;
