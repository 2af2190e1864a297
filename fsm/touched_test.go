package fsm

import (
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// What is not touched is the same in the kernel.
func TestTouchedProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		table := founded(t)
		before := table
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			next, _, _ := table.Apply(drawCommand(t, table))
			if rapid.IntRange(0, 3).Draw(t, "look") == 0 {
				checkTouched(t, before, next)
				before = next
			}
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				next = restored(t, next) // shares nothing with what was before
			}
			table = next
		}
		checkTouched(t, before, table)
	})
}

func checkTouched(t *rapid.T, before, now *Table) {
	touched := now.Touched(before)
	was := map[ServiceKey]Service{}
	for _, s := range before.Effective() {
		was[s.ServiceKey] = s
	}
	for _, s := range now.Effective() {
		if !touched[s.ServiceKey] && !reflect.DeepEqual(was[s.ServiceKey], s) {
			t.Fatalf("%s is not touched, but was\n%+v\nand is\n%+v", s.ServiceKey, was[s.ServiceKey], s)
		}
		delete(was, s.ServiceKey)
	}
	for key := range was {
		if !touched[key] {
			t.Fatalf("%s is not touched, but gone", key)
		}
	}
	part := now.EffectiveWhere(func(k ServiceKey) bool { return touched[k] })
	whole := slices.DeleteFunc(now.Effective(), func(s Service) bool { return !touched[s.ServiceKey] })
	if !reflect.DeepEqual(part, whole) {
		t.Fatalf("a part is %+v, of the whole %+v", part, whole)
	}
}

// One change of a large table touches one virtual server, and shares the rest.
func TestTouchedIsSmall(t *testing.T) {
	cfg := sized(20, 20, true)
	f := newLarge(t)
	f.apply(cfg)
	key, server := cfg.Services[7].ServiceKey, cfg.Services[7].RealServers[3]
	none := f.table
	want := func(what string, keys ...ServiceKey) {
		t.Helper()
		got := f.table.Touched(none)
		for _, k := range keys {
			if !got[k] {
				t.Errorf("%s: %s is not touched", what, k)
			}
		}
		if len(got) != len(keys) {
			t.Errorf("%s: %d virtual servers are touched, not %d", what, len(got), len(keys))
		}
		none = f.table
	}
	want("nothing")
	f.apply(reweighed(cfg, 7, 3, 9))
	want("a weight", key)
	f.do(Command{Votes: &CastVotes{Member: "m1", Opinions: []Opinion{{Target: server.Target(), Vote: Vote{Up: false}}}}})
	want("a server is down", key)
	f.do(Command{Override: &SetOverride{Service: key, Server: server.AddrPort(), State: Drained}})
	want("a drained server", key)
	f.do(Command{Override: &SetOverride{Service: key, Server: server.AddrPort()}})
	want("and back", key)
	f.do(Command{Override: &SetOverride{Server: server.AddrPort(), State: Disabled}})
	want("a server wherever it is", key) // each virtual server has its own port
	f.apply(sized(19, 20, true))
	want("one virtual server is gone, another as before", key, ServiceKey{Addr: key.Addr, Port: 1019, Protocol: TCP})
}

// Whoever adds a field to a virtual or real server must add it to equal.
func TestEqualSeesEveryField(t *testing.T) {
	v, r := VirtualServer{}, RealServer{}
	for name, o := range altered(t, v) {
		if name != "Set" && v.equal(o) {
			t.Errorf("a virtual server with another %s is equal", name)
		}
	}
	for name, o := range altered(t, r) {
		if r.equal(o) {
			t.Errorf("a real server with another %s is equal", name)
		}
	}
}

// altered is v with one field changed, by the field's name.
func altered[T any](t *testing.T, v T) map[string]T {
	all := map[string]T{}
	for i := range reflect.TypeFor[T]().NumField() {
		o := v
		f := reflect.ValueOf(&o).Elem().Field(i)
		switch f.Interface().(type) {
		case ServiceKey:
			f.Set(reflect.ValueOf(ServiceKey{Port: 1}))
		case netip.Addr:
			f.Set(reflect.ValueOf(netip.MustParseAddr("::1")))
		default:
			setOther(t, f)
		}
		all[reflect.TypeFor[T]().Field(i).Name] = o
	}
	return all
}

func setOther(t *testing.T, f reflect.Value) {
	switch f.Kind() {
	case reflect.String:
		f.SetString("x")
	case reflect.Bool:
		f.SetBool(true)
	case reflect.Int, reflect.Int64:
		f.SetInt(int64(time.Second))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		f.SetUint(1)
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
	case reflect.Struct:
		setOther(t, f.Field(0))
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), 1, 1))
	default:
		t.Fatalf("no way to alter a %s", f.Kind())
	}
}
