package fsm

import "slices"

// equal reports whether v and o are the same but for the set that owns them.
func (v VirtualServer) equal(o VirtualServer) bool {
	return v.equalHead(o) && (same(v.RealServers, o.RealServers) || slices.EqualFunc(v.RealServers, o.RealServers, RealServer.equal))
}

// equalHead is equal without the real servers.
func (v VirtualServer) equalHead(o VirtualServer) bool {
	return v.ServiceKey == o.ServiceKey && v.Panic == o.Panic && v.SlowStart == o.SlowStart && v.Alert == o.Alert && v.Notify.equal(o.Notify) && v.Scheduler == o.Scheduler && v.Method == o.Method &&
		v.Persistence == o.Persistence && v.PersistenceMask == o.PersistenceMask && v.PersistenceEngine == o.PersistenceEngine &&
		v.OnePacket == o.OnePacket && v.HashPort == o.HashPort && v.HashFallback == o.HashFallback &&
		v.Quorum == o.Quorum && v.Hysteresis == o.Hysteresis && (v.Sorry == o.Sorry || v.Sorry != nil && o.Sorry != nil && *v.Sorry == *o.Sorry) &&
		v.Group == o.Group && slices.Equal(v.Matches, o.Matches)
}

// equal reports whether r and o are the same.
func (r RealServer) equal(o RealServer) bool {
	return r.Addr == o.Addr && r.Port == o.Port && r.Weight == o.Weight && r.Method == o.Method &&
		r.UpperThreshold == o.UpperThreshold && r.LowerThreshold == o.LowerThreshold && r.Inhibit == o.Inhibit && r.NoAlert == o.NoAlert && r.Backup == o.Backup && r.Notify.equal(o.Notify) &&
		slices.EqualFunc(r.Checks, o.Checks, Check.equal)
}
