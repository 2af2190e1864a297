// Package tell tells people by mail, and programs by webhooks, what happened to the
// cluster.
//
// What is to be told stands in the table: package fsm keeps a [fsm.Notice] of each
// change of an owner, a member, a real server or a pool until every [fsm.Channel]
// that hears it has told it. A channel has one teller at a time, a director, which
// the table names. The [Runner] of that member waits a little ([Settle]), claims the
// notices that have come together as one batch (a command in the log), sends one mail
// ([Compose], [Send]) and records that it is told (another command).
//
// A batch of changes of servers is told to programs and pipes likewise ([Config.Run]),
// without waiting for more, by one director or by each: a channel of each then.
//
// # What is guaranteed
//
// A notice that the log has taken is told, unless more than [fsm.NoticesKept] wait,
// or a mail server refuses the mail for good [giveUp] times: events say so then. It
// is told once, unless its teller is killed, cut off or restarted after the server
// has accepted the mail and before the log knows. Then the mail is sent a second
// time, with the same Message-ID, by which mail systems know it for the same; the
// batch of a claim never changes. A change of leader or of the teller, and a mail
// that failed, repeat nothing that was accepted and recorded.
//
// The same holds for programs: those of a batch that was begun and not recorded run
// again.
//
// What the log cannot take, for there is no quorum, each member tells of itself
// ([Runner.Alert]): that it has no leader, and that its gate closed because a lease
// ran out. Such alerts are in memory only, a bounded number of them, and each member
// that sees the same sends its own.
//
// A mail that cannot be sent is tried again with growing pauses, by another
// director after two failures: perhaps only this one cannot reach the mail server.
// The mails of one set never wait for those of another, and nothing in the cluster
// waits for a mail.
//
// Called by: cmd/lbcluster, which runs one Runner a member and hands it each table.
// It decides nothing about servers, owners or leases, and keeps no file.
package tell
