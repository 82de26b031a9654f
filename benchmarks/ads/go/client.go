package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sync"
	"time"
)

// A client is a fleet of proxies that can be told what to do.
type client struct {
	fleet   *fleet
	proxies []*proxy
	cancel  context.CancelFunc
	running sync.WaitGroup
	kept    [kinds]map[string]string // versions of the fleet before
}

func newClient() *client { return &client{} }

type openCommand struct {
	N          int      `json:"n"`
	Offset     int      `json:"offset"` // of the first proxy's number
	Mode       string   `json:"mode"`
	Address    string   `json:"address"`
	Endpoints  []string `json:"endpoints"` // their names
	Routes     []string `json:"routes"`
	Extensions int      `json:"extensions"` // in the node
	Idle       bool     `json:"idle"`       // ask for nothing
	Resume     bool     `json:"resume"`     // with the versions of the fleet before
	Within     float64  `json:"within"`     // seconds
	Nodes      []string `json:"nodes"`      // their ids, instead of numbered ones
	Follow     bool     `json:"follow"`     // ask for what clusters and listeners name; delta only
}

func (c *client) handle(name string, raw json.RawMessage) (object, error) {
	var args struct {
		openCommand
		Marker   int64   `json:"marker"`
		Fraction float64 `json:"fraction"`
		On       bool    `json:"on"`
		Start    int64   `json:"start"`
		Interval int64   `json:"interval"`
		Count    int64   `json:"count"`
	}
	if err := json.Unmarshal(raw, &args); err != nil {
		return nil, err
	}
	if name == "open" {
		return c.open(args.openCommand)
	}
	if name == "close" {
		return c.close(), nil
	}
	if c.fleet == nil {
		return nil, errors.New("open comes first")
	}
	switch name {
	case "expect":
		c.fleet.reached.Store(0)
		c.fleet.target.Store(args.Marker)
		return object{}, nil
	case "wait":
		return c.wait(args.Within), nil
	case "stall":
		return c.stall(args.Fraction), nil
	case "nack":
		c.fleet.refuses.Store(args.On)
		return object{}, nil
	case "record":
		c.fleet.records.Store(args.On)
		return object{}, nil
	case "staleness":
		return c.staleness(args.Start, args.Interval, args.Marker, args.Count), nil
	case "counts":
		return c.counts(), nil
	}
	return nil, errors.New("unknown command")
}

func (c *client) open(args openCommand) (object, error) {
	spoken, ok := dialects[args.Mode]
	if !ok {
		return nil, fmt.Errorf("no dialect %q", args.Mode)
	}
	if c.fleet != nil {
		return nil, errors.New("a fleet is open already")
	}
	if len(args.Nodes) > 0 {
		args.N = len(args.Nodes)
	}
	if args.Follow && !spoken.isDelta {
		return nil, errors.New("only delta fleets follow names")
	}
	c.fleet = &fleet{
		address: args.Address, dialect: spoken, features: features(args.Extensions),
		isIdle: args.Idle, nodes: args.Nodes, follows: args.Follow,
		wake: make(chan struct{}, 1),
	}
	c.fleet.names[endpoints], c.fleet.names[routes] = args.Endpoints, args.Routes
	if args.Resume {
		if c.kept[clusters] == nil {
			return nil, errors.New("there is no delta fleet to resume")
		}
		c.fleet.known, c.fleet.versions = c.kept, c.kept
		for kind := range kinds { // what is not sent again is still there
			c.fleet.versions[kind] = maps.Clone(c.kept[kind])
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.proxies = cancel, make([]*proxy, args.N)
	began := now()
	for index := range c.proxies {
		one := &proxy{index: args.Offset + index, fleet: c.fleet, gate: gate{opened: make(chan struct{})}}
		one.seen, one.isFirst = -1, index == 0
		c.proxies[index] = one
		c.running.Go(func() { one.run(ctx) })
	}
	c.until(args.Within, func() bool { return c.fleet.opened.Load() >= int64(args.N) })
	reply := c.counts()
	reply["synced"] = c.fleet.opened.Load()
	reply["seconds"] = float64(c.fleet.lastSync.Load()-began) / 1e9
	return reply, nil
}

// until waits for a condition that some proxy brings about.
func (c *client) until(timeout float64, done func() bool) {
	deadline := time.After(time.Duration(timeout * float64(time.Second)))
	for !done() {
		select {
		case <-c.fleet.wake:
		case <-deadline:
			return
		}
	}
}

// wait until all that read have the number that is expected.
func (c *client) wait(timeout float64) object {
	var readers []*proxy
	for _, one := range c.proxies {
		if !one.gate.isShut.Load() {
			readers = append(readers, one)
		}
	}
	c.until(timeout, func() bool { return c.fleet.reached.Load() >= int64(len(readers)) })
	reply := c.counts()
	reply["reached"] = c.fleet.reached.Load()
	if c.fleet.reached.Load() < int64(len(readers)) {
		return reply // some are still writing their times
	}
	var lastReceipt, lastAnswer int64
	for _, one := range readers {
		lastReceipt, lastAnswer = max(lastReceipt, one.receivedAt), max(lastAnswer, one.answeredAt)
	}
	reply["last_receipt"], reply["last_answer"] = lastReceipt, lastAnswer
	return reply
}

// stall lets a fraction of the proxies never read again.
func (c *client) stall(fraction float64) object {
	stalled := int(math.Round(fraction * float64(len(c.proxies))))
	for _, one := range c.proxies[:stalled] {
		one.gate.isShut.Store(true)
	}
	return object{"stalled": stalled}
}

func (c *client) counts() object {
	responses, resources := object{}, object{}
	for kind, name := range [kinds]string{"clusters", "endpoints", "listeners", "routes"} {
		responses[name] = c.fleet.responses[kind].Load()
		resources[name] = c.fleet.resources[kind].Load()
	}
	c.fleet.mu.Lock()
	defer c.fleet.mu.Unlock()
	return object{
		"responses": responses, "resources": resources, "removed": c.fleet.removed.Load(),
		"bytes": c.fleet.bytes.Load(), "failures": c.fleet.failures.Load(),
		"last_error": c.fleet.lastErr,
	}
}

// staleness tells how long after their time `count` numbers, `interval` nanoseconds apart, were
// covered, over all proxies: a number is covered by the first receipt of it or of a later one.
func (c *client) staleness(start, interval, first, count int64) object {
	var spent []float64 // milliseconds
	missing, receipts := int64(0), 0
	for _, one := range c.proxies {
		receipts += len(one.history)
		next := int64(0)
		for _, got := range one.history {
			for ; next < count && first+next <= got.number; next++ {
				spent = append(spent, float64(got.at-start-next*interval)/1e6)
			}
		}
		missing += count - next
		one.history = nil
	}
	reply := object{"missing": missing, "receipts": receipts, "samples": len(spent)}
	if len(spent) == 0 {
		return reply
	}
	slices.Sort(spent)
	for name, part := range map[string]float64{"p50": 0.5, "p99": 0.99, "p999": 0.999, "max": 1} {
		reply[name] = spent[int(part*float64(len(spent)-1))]
	}
	return reply
}

func (c *client) close() object {
	if c.fleet == nil {
		return object{}
	}
	c.cancel()
	for _, one := range c.proxies {
		close(one.gate.opened)
	}
	c.running.Wait()
	c.kept = c.fleet.versions
	c.fleet, c.proxies = nil, nil
	return object{}
}
