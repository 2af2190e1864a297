// Package hold keeps TCP connections open through a virtual server, as clients
// do that stay: on each of them a request is sent again and again, and one that
// breaks is not opened anew. It says how many were broken, by groups: those of
// one age, say.
//
//	c := hold.New(client.Do, site.Target)
//	defer c.Close()
//	err := c.Open("held", 500, 5*time.Millisecond)
//	...
//	left, of := c.Left("held")
//
// One goroutine serves all connections and polls them, since the machine of the
// lab is an emulated one: waking a goroutine for each answer would take more of
// it than the load balancers that are looked at.
package hold
