// Package oracle compares what keepalived makes of a keepalived.conf with what
// fsm/conf makes of it.
//
// Both are brought into one form, [Facts]: a value for each field of each
// element, in keepalived's words. keepalived's come from the dump that it writes
// itself (the option -d), ours from the configuration as it was read. What
// differs must stand in a table of explained differences ([Explained]), and what
// stands there must differ, so that the table stays true; the page for people is
// generated from it.
//
// Called by the tests of this package, which compare with facts that were
// recorded, and by those of package e2e, which run keepalived in the lab. It
// runs nothing and opens no file itself.
package oracle
