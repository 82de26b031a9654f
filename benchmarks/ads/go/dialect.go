package main

import (
	"fmt"
	"maps"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// A subscription is what one proxy says of one type.
type subscription struct {
	kind     int
	names    []string          // none: everything
	known    map[string]string // versions from the stream before; only delta
	accepted []byte            // the last version; only SotW
}

// A dialect words the requests of a client.
type dialect struct {
	method  string
	isDelta bool
}

var dialects = map[string]dialect{
	"sotw": {
		method: "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
	},
	"delta": {
		method:  "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
		isDelta: true,
	},
}

// subscribe is the first request of a type on a stream; node is nil but in the very first.
func (d dialect) subscribe(url string, sub *subscription, node []byte) []byte {
	var out []byte
	if !d.isDelta {
		if node != nil {
			out = appendField(out, 2, node)
		}
		return appendText(appendNames(out, sub.names), 4, url)
	}
	if node != nil {
		out = appendField(out, 1, node)
	}
	out = appendNames(appendText(out, 2, url), sub.names)
	for _, name := range slices.Sorted(maps.Keys(sub.known)) {
		entry := appendText(appendText(nil, 1, name), 2, sub.known[name])
		out = appendField(out, 5, entry)
	}
	return out
}

// answer acknowledges a response, or refuses it where there is a reason to.
func (d dialect) answer(sub *subscription, nonce []byte, reason string) []byte {
	url := typeURLs[sub.kind]
	out := make([]byte, 0, 128)
	if d.isDelta {
		out = appendField(appendText(out, 2, url), 6, nonce)
		return appendStatus(out, 7, reason)
	}
	out = appendNames(appendField(out, 1, sub.accepted), sub.names)
	out = appendField(appendText(out, 4, url), 5, nonce)
	return appendStatus(out, 6, reason)
}

func appendNames(to []byte, names []string) []byte {
	for _, name := range names {
		to = appendText(to, 3, name)
	}
	return to
}

func appendStatus(to []byte, number protowire.Number, reason string) []byte {
	if reason == "" {
		return to
	}
	const invalidArgument = 3
	status := protowire.AppendTag(nil, 1, protowire.VarintType)
	status = appendText(protowire.AppendVarint(status, invalidArgument), 2, reason)
	return appendField(to, number, status)
}

// features is all of a node but its id, the same for all proxies. An Envoy lists the extensions
// that it was built with, 516 in 1.40, which makes its first request 61 kB.
func features(extensions int) []byte {
	out := appendText(nil, 2, "bench")
	out = appendText(out, 6, "envoy")
	for number := range extensions {
		extension := appendText(nil, 1, fmt.Sprintf("envoy.filters.http.of_the_bench_%03d", number))
		extension = appendText(extension, 2, "envoy.filters.http")
		url := fmt.Sprintf("envoy.extensions.filters.http.of_the_bench_%03d.v3.Config", number)
		out = appendField(out, 9, appendText(extension, 6, url))
	}
	return appendText(out, 10, "envoy.lb.does_not_support_overprovisioning")
}

func node(id string, features []byte) []byte {
	return append(appendText(nil, 1, id), features...)
}

func nodeID(index int) string { return fmt.Sprintf("bench/proxy-%d", index) }
