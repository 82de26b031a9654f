package main

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// As Envoy has them; fixed windows also spare both sides the pings that estimate bandwidth.
const (
	streamWindow     = 16 << 20
	connectionWindow = 24 << 20
)

// Envoy waits that long before it connects again, more after each failure, with full jitter.
const (
	firstBackOff = 500 * time.Millisecond
	mostBackOff  = 30 * time.Second
)

// A receipt is when a proxy got what carries a number.
type receipt struct{ at, number int64 }

// A proxy is one connection with one stream on it.
type proxy struct {
	index   int
	isFirst bool // the one that remembers versions for all
	fleet   *fleet
	gate    gate
	subs    [kinds]subscription
	asked   [kinds]bool
	wanted  [kinds]map[string]bool // names that were asked for, of those who follow them
	synced  atomic.Bool

	// Written by the proxy's own goroutine; read by others after the fleet's counters said that
	// something arrived.
	answered   [kinds]bool
	seen       int64
	receivedAt int64
	answeredAt int64
	history    []receipt
}

// A gate lets a connection be read, or not.
type gate struct {
	isShut atomic.Bool
	opened chan struct{}
}

type gated struct {
	net.Conn
	gate *gate
}

func (c gated) Read(into []byte) (int, error) {
	if c.gate.isShut.Load() {
		<-c.gate.opened
	}
	return c.Conn.Read(into)
}

// run keeps a stream open until the context ends.
func (p *proxy) run(ctx context.Context) {
	for failures := 0; ctx.Err() == nil; failures++ {
		p.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		p.fleet.failures.Add(1)
		most := min(firstBackOff<<min(failures, 10), mostBackOff)
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(most)):
		}
	}
}

func (p *proxy) stream(ctx context.Context) {
	connection, err := grpc.NewClient(
		"passthrough:///"+p.fleet.address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(p.dial),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(64<<20), grpc.WaitForReady(true),
		),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connectionWindow),
		grpc.WithSharedWriteBuffer(true),
		grpc.WithDisableServiceConfig(),
	)
	if err != nil {
		fail(err)
	}
	defer connection.Close()
	description := grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	stream, err := connection.NewStream(ctx, &description, p.fleet.dialect.method)
	if err != nil {
		p.fleet.note(err)
		return
	}
	if err := p.talk(stream); err != nil {
		p.fleet.note(err)
	}
}

func (p *proxy) dial(ctx context.Context, address string) (net.Conn, error) {
	connection, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return gated{connection, &p.gate}, nil
}

func (p *proxy) talk(stream grpc.ClientStream) error {
	p.asked, p.answered = [kinds]bool{}, [kinds]bool{}
	p.wanted = [kinds]map[string]bool{}
	if err := p.open(stream); err != nil {
		return err
	}
	got := response{isDelta: p.fleet.dialect.isDelta, keepsBodies: p.fleet.follows}
	if p.isFirst && got.isDelta {
		got.versions = map[string]string{}
	}
	for {
		if err := stream.RecvMsg(&got); err != nil {
			return err
		}
		if p.gate.isShut.Load() {
			<-p.gate.opened
		}
		if err := p.take(stream, &got); err != nil {
			return err
		}
	}
}

// open sends what an Envoy sends first: clusters and listeners, and what they name only if it has
// them from another stream.
func (p *proxy) open(stream grpc.ClientStream) error {
	who := node(p.fleet.id(p.index), p.fleet.features)
	if p.fleet.isIdle {
		request := p.fleet.dialect.subscribe(secretsURL, &subscription{}, who)
		if err := stream.SendMsg(&request); err != nil {
			return err
		}
		p.sync()
		return nil
	}
	for kind := range kinds {
		p.subs[kind] = subscription{kind: kind, names: p.fleet.names[kind]}
		p.subs[kind].known = p.fleet.known[kind]
	}
	first := []int{clusters, listeners}
	if p.fleet.known[clusters] != nil {
		first = []int{clusters, endpoints, listeners, routes}
	}
	for _, kind := range first {
		if err := p.ask(stream, kind, who); err != nil {
			return err
		}
		who = nil
	}
	return nil
}

func (p *proxy) ask(stream grpc.ClientStream, kind int, who []byte) error {
	if p.asked[kind] {
		return nil
	}
	p.asked[kind] = true
	request := p.fleet.dialect.subscribe(typeURLs[kind], &p.subs[kind], who)
	return stream.SendMsg(&request)
}

// take counts a response, answers it, and asks for what it names.
func (p *proxy) take(stream grpc.ClientStream, got *response) error {
	at := now()
	p.fleet.count(got)
	if got.kind < 0 {
		return nil
	}
	if got.versions != nil {
		p.fleet.remember(got)
	}
	if p.fleet.follows && got.kind == routes {
		got.newest = p.fleet.target.Load() // these bytes carry no number: it is what is awaited
	}
	sub, reason := &p.subs[got.kind], ""
	if got.newest >= 0 && p.fleet.refuses.Load() {
		reason = "refused by the benchmark"
	} else {
		sub.accepted = append(sub.accepted[:0], got.version...)
	}
	reply := p.fleet.dialect.answer(sub, got.nonce, reason)
	if err := stream.SendMsg(&reply); err != nil {
		return err
	}
	p.note(got, at)
	if p.fleet.follows {
		return p.follow(stream, got)
	}
	switch got.kind {
	case clusters:
		return p.ask(stream, endpoints, nil)
	case listeners:
		return p.ask(stream, routes, nil)
	}
	return nil
}

// note keeps the times of this response, then tells the fleet.
func (p *proxy) note(got *response, receivedAt int64) {
	p.answered[got.kind] = true
	before := p.seen
	if got.newest > before {
		p.seen, p.receivedAt, p.answeredAt = got.newest, receivedAt, now()
		if p.fleet.records.Load() {
			p.history = append(p.history, receipt{receivedAt, got.newest})
		}
		p.fleet.passed(before, got.newest)
	}
	if !p.synced.Load() && p.hasAll() {
		p.sync()
	}
}

// hasAll tells whether the proxy could start: a server need not send again what it knows that a
// proxy has, except that it must answer a wildcard.
func (p *proxy) hasAll() bool {
	if p.fleet.known[clusters] != nil {
		return p.answered[clusters] && p.answered[listeners]
	}
	return p.answered == [kinds]bool{true, true, true, true}
}

func (p *proxy) sync() {
	if p.synced.CompareAndSwap(false, true) {
		p.fleet.syncedOne()
	}
}

// A fleet is what the proxies of one "open" share.
type fleet struct {
	address  string
	dialect  dialect
	features []byte
	isIdle   bool
	nodes    []string
	follows  bool
	names    [kinds][]string
	known    [kinds]map[string]string

	refuses atomic.Bool
	records atomic.Bool

	target   atomic.Int64 // the number that is waited for
	reached  atomic.Int64 // how many proxies have it
	opened   atomic.Int64
	failures atomic.Int64
	lastSync atomic.Int64
	wake     chan struct{}

	responses [kinds]atomic.Int64
	resources [kinds]atomic.Int64
	removed   atomic.Int64
	bytes     atomic.Int64

	mu       sync.Mutex
	versions [kinds]map[string]string
	lastErr  string
}

func (f *fleet) id(index int) string {
	if len(f.nodes) > 0 {
		return f.nodes[index]
	}
	return nodeID(index)
}

func (f *fleet) count(got *response) {
	f.bytes.Add(int64(got.size))
	if got.kind >= 0 {
		f.responses[got.kind].Add(1)
		f.resources[got.kind].Add(int64(got.resources))
		f.removed.Add(int64(got.removed))
	}
}

func (f *fleet) remember(got *response) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.versions[got.kind] == nil {
		f.versions[got.kind] = map[string]string{}
	}
	for name, version := range got.versions {
		f.versions[got.kind][name] = version
	}
	clear(got.versions)
}

func (f *fleet) passed(before, after int64) {
	if target := f.target.Load(); before < target && target <= after {
		f.reached.Add(1)
		f.nudge()
	}
}

func (f *fleet) syncedOne() {
	f.lastSync.Store(now())
	f.opened.Add(1)
	f.nudge()
}

func (f *fleet) note(err error) {
	f.mu.Lock()
	f.lastErr = err.Error()
	f.mu.Unlock()
}

func (f *fleet) nudge() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}
