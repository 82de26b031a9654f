package main

import (
	clusterpb "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerpb "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// What names something else, and the kind of what it names.
var namesOf = map[int]int{clusters: endpoints, listeners: routes}

// follow asks for what these clusters or listeners name and was not asked for before, as an Envoy
// does; it stays subscribed to what is gone.
func (p *proxy) follow(stream grpc.ClientStream, got *response) error {
	kind, names := namesOf[got.kind]
	if !names {
		return nil
	}
	if p.wanted[kind] == nil {
		p.wanted[kind] = map[string]bool{}
	}
	sub := &subscription{kind: kind}
	for _, body := range got.bodies {
		for _, name := range references(got.kind, body) {
			if !p.wanted[kind][name] {
				p.wanted[kind][name] = true
				sub.names = append(sub.names, name)
			}
		}
	}
	if len(sub.names) == 0 {
		return nil
	}
	request := p.fleet.dialect.subscribe(typeURLs[kind], sub, nil)
	return stream.SendMsg(&request)
}

// references are the names of endpoints or routes in a cluster or a listener.
func references(kind int, body []byte) []string {
	var parsed types.Resource = &clusterpb.Cluster{}
	if kind == listeners {
		parsed = &listenerpb.Listener{}
	}
	if err := proto.Unmarshal(body, parsed); err != nil {
		fail(err)
	}
	found := cache.GetResourceReferences(map[string]types.ResourceWithTTL{"": {Resource: parsed}})
	var names []string
	for _, set := range found {
		for name := range set {
			names = append(names, name)
		}
	}
	return names
}

// body is what an Any in a Resource of a delta response holds.
func body(resource []byte) (found []byte) {
	_ = fields(resource, func(number protowire.Number, value []byte) {
		if number == 2 {
			_ = fields(value, func(number protowire.Number, value []byte) {
				if number == 2 {
					found = append([]byte{}, value...)
				}
			})
		}
	})
	return found
}
