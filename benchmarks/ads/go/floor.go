package main

import (
	"encoding/json"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
)

// A floor is a server that knows nothing: whoever asks for a type gets the same ready bytes, and
// a push goes to every stream. It is what gRPC itself costs.
type floor struct {
	world  world
	first  map[string]*[kinds][]byte // by the method's dialect
	ready  map[string][]byte
	nonces atomic.Int64

	mu      sync.Mutex
	streams map[chan []byte]string
}

func newFloor() *floor { return &floor{streams: map[chan []byte]string{}} }

func (f *floor) handle(name string, raw json.RawMessage) (object, error) {
	var args serverCommand
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, err
	}
	switch name {
	case "start":
		return f.start(args.Resources)
	case "nodes":
		return object{}, nil // it serves everybody
	case "prepare":
		f.ready = map[string][]byte{}
		one := f.world[routes][0]
		changed := []named{{one.name, marked(one.body, args.Marker)}}
		for mode := range dialects {
			f.ready[mode] = f.response(mode, routes, changed)
		}
		return object{}, nil
	case "push":
		return f.push(), nil
	}
	return nil, errors.New("unknown command")
}

func (f *floor) start(path string) (object, error) {
	loaded, err := load(path)
	if err != nil {
		return nil, err
	}
	f.world, f.first = loaded, map[string]*[kinds][]byte{}
	description := grpc.ServiceDesc{
		ServiceName: "envoy.service.discovery.v3.AggregatedDiscoveryService",
		HandlerType: (*any)(nil),
	}
	for mode, spoken := range dialects {
		f.first[mode] = &[kinds][]byte{}
		for kind, all := range loaded {
			f.first[mode][kind] = f.response(mode, kind, all)
		}
		description.Streams = append(description.Streams, grpc.StreamDesc{
			StreamName:    spoken.method[len("/")+len(description.ServiceName)+len("/"):],
			ServerStreams: true, ClientStreams: true,
			Handler: func(_ any, stream grpc.ServerStream) error { return f.serve(mode, stream) },
		})
	}
	return listen(
		func(served *grpc.Server) { served.RegisterService(&description, nil) },
		grpc.ForceServerCodecV2(codec{}),
	)
}

func (f *floor) response(mode string, kind int, all []named) []byte {
	nonce := strconv.FormatInt(f.nonces.Add(1), 10)
	out := appendText(nil, 1, nonce)
	for _, one := range all {
		resource := appendField(appendText(nil, 1, typeURLs[kind]), 2, one.body)
		if dialects[mode].isDelta {
			resource = appendText(appendField(appendText(nil, 1, nonce), 2, resource), 3, one.name)
		}
		out = appendField(out, 2, resource)
	}
	return appendText(appendText(out, 4, typeURLs[kind]), 5, nonce)
}

func (f *floor) serve(mode string, stream grpc.ServerStream) error {
	out := make(chan []byte, 16)
	f.mu.Lock()
	f.streams[out] = mode
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.streams, out)
		f.mu.Unlock()
	}()
	go f.listen(mode, stream, out)
	for {
		select {
		case <-stream.Context().Done():
			return nil
		case body := <-out:
			if err := stream.SendMsg(&body); err != nil {
				return err
			}
		}
	}
}

func (f *floor) listen(mode string, stream grpc.ServerStream, out chan<- []byte) {
	got := request{isDelta: dialects[mode].isDelta}
	for stream.RecvMsg(&got) == nil {
		if got.kind >= 0 && got.isFirst {
			out <- f.first[mode][got.kind]
		}
	}
}

func (f *floor) push() object {
	at := now()
	f.mu.Lock()
	defer f.mu.Unlock()
	for out, mode := range f.streams {
		select {
		case out <- f.ready[mode]:
		default: // it never reads
		}
	}
	return object{"at": at, "done": now()}
}
