// Package apitest is a daemon for tests of the API and of the command line: a
// real fsm.Table with the real rules, and around it members that exist only as
// statuses which the test writes. It replicates nothing, opens no network
// connection and writes no file.
package apitest
