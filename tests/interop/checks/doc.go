// Package checks holds what a stock Tailscale client must see of a relay.
//
// The same source is compiled against several releases of the client library;
// what differs between them comes in through Library. Every check is a
// statement about derper, and is run against derper too.
package checks
