package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	clusterpb "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointpb "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerpb "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routepb "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
)

// A world is the resources that a server is started with, as the driver wrote them.
type world [kinds][]named

type named struct {
	name string
	body []byte
}

func load(path string) (world, error) {
	var out world
	raw, err := os.ReadFile(path)
	if err != nil {
		return out, err
	}
	var all []struct{ Type, Name, Body string }
	if err := json.Unmarshal(raw, &all); err != nil {
		return out, err
	}
	for _, one := range all {
		kind := kindOf([]byte(one.Type))
		if kind < 0 {
			return out, fmt.Errorf("no resource of the benchmark is of type %q", one.Type)
		}
		body, err := base64.StdEncoding.DecodeString(one.Body)
		if err != nil {
			return out, err
		}
		out[kind] = append(out[kind], named{one.Name, body})
	}
	return out, nil
}

type startCommand struct {
	Resources string `json:"resources"` // path
}

type serverCommand struct {
	startCommand
	N       int     `json:"n"`
	Marker  int64   `json:"marker"`
	Rate    float64 `json:"rate"`
	Seconds float64 `json:"seconds"`
}

func listen(register func(*grpc.Server), options ...grpc.ServerOption) (object, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	served := grpc.NewServer(append(options, grpc.MaxConcurrentStreams(1<<20))...)
	register(served)
	go func() { fail(served.Serve(listener)) }()
	return object{"address": listener.Addr().String()}, nil
}

// A peer is a server on go-control-plane: one snapshot object that all nodes share, replaced at
// each change; only the type that changed gets a new version, and only what changed is built anew.
type peer struct {
	world    world
	cache    cache.SnapshotCache
	snapshot *cache.Snapshot
	nodes    int
	ready    types.Resource // prepared, not yet pushed
	pushes   int
}

func (p *peer) handle(name string, raw json.RawMessage) (object, error) {
	var args serverCommand
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, err
	}
	switch name {
	case "start":
		return p.start(args.Resources)
	case "nodes":
		p.nodes = args.N
		return object{}, p.publish()
	case "prepare":
		message, err := parse(routes, marked(p.world[routes][0].body, args.Marker))
		p.ready = message
		return object{}, err
	case "push":
		return p.push()
	case "churn":
		return p.churn(args)
	}
	return nil, errors.New("unknown command")
}

func (p *peer) start(path string) (object, error) {
	loaded, err := load(path)
	if err != nil {
		return nil, err
	}
	p.world, p.snapshot = loaded, &cache.Snapshot{}
	for kind, all := range loaded {
		messages := make([]types.Resource, len(all))
		for number, one := range all {
			if messages[number], err = parse(kind, one.body); err != nil {
				return nil, err
			}
		}
		p.snapshot.Resources[cache.GetResponseType(typeURLs[kind])] = cache.NewResources("1", messages)
	}
	if err := p.snapshot.Consistent(); err != nil {
		return nil, err
	}
	p.cache = cache.NewSnapshotCache(true, cache.IDHash{}, nil)
	xds := server.NewServer(context.Background(), p.cache, nil, sotw.WithOrderedADS())
	return listen(func(served *grpc.Server) {
		discovery.RegisterAggregatedDiscoveryServiceServer(served, xds)
	})
}

func parse(kind int, body []byte) (types.Resource, error) {
	message := [kinds]types.Resource{
		clusters:  &clusterpb.Cluster{},
		endpoints: &endpointpb.ClusterLoadAssignment{},
		listeners: &listenerpb.Listener{},
		routes:    &routepb.RouteConfiguration{},
	}[kind]
	return message, proto.Unmarshal(body, message)
}

// replace makes a snapshot that differs in these resources of one type; all else is shared.
func (p *peer) replace(kind int, changed ...types.Resource) {
	p.pushes++
	next := &cache.Snapshot{Resources: p.snapshot.Resources}
	index := cache.GetResponseType(typeURLs[kind])
	items := make(map[string]types.ResourceWithTTL, len(p.snapshot.Resources[index].Items))
	for name, item := range p.snapshot.Resources[index].Items {
		items[name] = item
	}
	for _, resource := range changed {
		items[cache.GetResourceName(resource)] = types.ResourceWithTTL{Resource: resource}
	}
	version := strconv.Itoa(p.pushes + 1)
	next.Resources[index] = cache.Resources{Version: version, Items: items}
	p.snapshot = next
}

func (p *peer) publish() error {
	for index := range p.nodes {
		err := p.cache.SetSnapshot(context.Background(), nodeID(index), p.snapshot)
		if err != nil {
			return err
		}
	}
	return nil
}

func (p *peer) push() (object, error) {
	at := now()
	p.replace(routes, p.ready)
	err := p.publish()
	return object{"at": at, "done": now()}, err
}

// churn changes one load assignment after another at a rate. Like any control plane that cannot
// keep up, it publishes only the latest of what is due.
func (p *peer) churn(args serverCommand) (object, error) {
	all := p.world[endpoints]
	count := int64(args.Rate * args.Seconds)
	interval := int64(1e9 / args.Rate)
	start, published := now(), 0
	for done := int64(0); done < count; {
		due := min((now()-start)/interval+1, count)
		if due <= done {
			time.Sleep(time.Duration(start + done*interval - now()))
			continue
		}
		changed := map[string]types.Resource{}
		for ; done < due; done++ {
			one := all[done%int64(len(all))]
			message, err := parse(endpoints, marked(one.body, args.Marker+done))
			if err != nil {
				return nil, err
			}
			changed[one.name] = message
		}
		latest := make([]types.Resource, 0, len(changed))
		for _, message := range changed {
			latest = append(latest, message)
		}
		p.replace(endpoints, latest...)
		if err := p.publish(); err != nil {
			return nil, err
		}
		published++
	}
	return object{"start": start, "interval": interval, "count": count, "published": published}, nil
}
