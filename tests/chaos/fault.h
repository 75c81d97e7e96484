/* What can go wrong, once: done by one scenario alone, or by all at once. */
#ifndef GIMUX_CHAOS_FAULT_H
#define GIMUX_CHAOS_FAULT_H

#include "tests/chaos/world.h"

/* Some driver's connection will be cut at a random byte, of what it sends or of what it is sent. */
void fault_guest(struct world *world);

/* An SVM is killed, stopped, slow, silent, reset or cut at a random byte; the one before recovers. */
void fault_svm(struct world *world, struct svm *svm);

/* Ends the fault of the SVM. */
void fault_svm_end(struct world *world, struct svm *svm);

/* gimuxd is killed with SIGKILL and, after a moment, started again; sometimes an SVM dies with it. */
void fault_kill(struct world *world);

/* Certificates are renewed at one end or both, now and then with the authority; gimuxd and SVMs read them. */
void fault_certificates(struct world *world);

#endif
