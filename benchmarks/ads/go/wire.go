package main

import (
	"bytes"
	"fmt"
	"strconv"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// The kinds of resources of the benchmark, in the order in which an Envoy asks for them.
const (
	clusters = iota
	endpoints
	listeners
	routes
	kinds // how many there are
)

var typeURLs = [kinds]string{
	"type.googleapis.com/envoy.config.cluster.v3.Cluster",
	"type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
	"type.googleapis.com/envoy.config.listener.v3.Listener",
	"type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
}

// secretsURL is a type that nobody here has resources of.
const secretsURL = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

func kindOf(url []byte) int {
	for kind, known := range typeURLs {
		if string(url) == known {
			return kind
		}
	}
	return -1
}

// What changes carries a number in its bytes, by which a client knows what it got.
const (
	markerPrefix = "marker-"
	markerDigits = 12
)

func marker(number int64) []byte {
	return fmt.Appendf(nil, "%s%0*d", markerPrefix, markerDigits, number)
}

// marked returns a copy of the template with another number in it.
func marked(template []byte, number int64) []byte {
	return bytes.Replace(template, marker(0), marker(number), 1)
}

// newest returns the highest number in these bytes, or -1.
func newest(data []byte) int64 {
	best := int64(-1)
	for {
		at := bytes.Index(data, []byte(markerPrefix))
		if at < 0 || len(data) < at+len(markerPrefix)+markerDigits {
			return best
		}
		data = data[at+len(markerPrefix):]
		number, err := strconv.ParseInt(string(data[:markerDigits]), 10, 64)
		if err == nil && number > best {
			best = number
		}
	}
}

// A readable is filled from the bytes of one message, which it may not keep.
type readable interface {
	read(data []byte) error
}

// codec passes bytes through: what is sent is a *[]byte, what is received a readable.
type codec struct{}

func (codec) Name() string { return "proto" }

func (codec) Marshal(message any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*message.(*[]byte))}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, message any) error {
	if len(data) == 1 {
		return message.(readable).read(data[0].ReadOnlyData())
	}
	whole := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer whole.Free()
	return message.(readable).read(whole.ReadOnlyData())
}

// fields calls with every length-delimited field of a message.
func fields(data []byte, with func(number protowire.Number, value []byte)) error {
	for len(data) > 0 {
		number, kind, size := protowire.ConsumeTag(data)
		if size < 0 {
			return protowire.ParseError(size)
		}
		data = data[size:]
		if kind == protowire.BytesType {
			value, size := protowire.ConsumeBytes(data)
			if size < 0 {
				return protowire.ParseError(size)
			}
			with(number, value)
			data = data[size:]
			continue
		}
		if size = protowire.ConsumeFieldValue(number, kind, data); size < 0 {
			return protowire.ParseError(size)
		}
		data = data[size:]
	}
	return nil
}

// A response is what a client needs of a DiscoveryResponse or DeltaDiscoveryResponse, whose
// numbers agree but for those of what is removed.
type response struct {
	isDelta   bool
	kind      int
	version   []byte
	nonce     []byte
	resources int
	removed   int
	newest    int64
	size      int
	versions  map[string]string // of each resource by name; only delta, only if not nil

	keepsBodies bool
	bodies      [][]byte // of each resource; only delta
}

func (r *response) read(data []byte) error {
	r.kind, r.version, r.nonce, r.resources, r.removed = -1, r.version[:0], r.nonce[:0], 0, 0
	r.bodies = nil
	err := fields(data, func(number protowire.Number, value []byte) {
		switch number {
		case 1:
			r.version = append(r.version, value...)
		case 2:
			r.resources++
			if r.versions != nil {
				r.remember(value)
			}
			if r.keepsBodies {
				r.bodies = append(r.bodies, body(value))
			}
		case 4:
			r.kind = kindOf(value)
		case 5:
			r.nonce = append(r.nonce, value...)
		case 6:
			if r.isDelta {
				r.removed++
			}
		}
	})
	r.size, r.newest = len(data), -1
	if r.kind == routes || r.kind == endpoints {
		r.newest = newest(data)
	}
	return err
}

func (r *response) remember(resource []byte) {
	var name, version string
	err := fields(resource, func(number protowire.Number, value []byte) {
		switch number {
		case 1:
			version = string(value)
		case 3:
			name = string(value)
		}
	})
	if err == nil && name != "" {
		r.versions[name] = version
	}
}

// A request is what the floor needs of a request of either dialect.
type request struct {
	isDelta bool
	kind    int
	isFirst bool // of its type: it answers no response
}

func (r *request) read(data []byte) error {
	url, nonce := protowire.Number(4), protowire.Number(5)
	if r.isDelta {
		url, nonce = 2, 6
	}
	r.kind, r.isFirst = -1, true
	return fields(data, func(number protowire.Number, value []byte) {
		switch number {
		case url:
			r.kind = kindOf(value)
		case nonce:
			r.isFirst = len(value) == 0
		}
	})
}

func appendField(to []byte, number protowire.Number, value []byte) []byte {
	to = protowire.AppendTag(to, number, protowire.BytesType)
	return protowire.AppendBytes(to, value)
}

func appendText(to []byte, number protowire.Number, value string) []byte {
	to = protowire.AppendTag(to, number, protowire.BytesType)
	return protowire.AppendString(to, value)
}
