// A gRPC client that finds its servers by xDS, driven over standard input.
//
// Each line is a JSON order, each answer a JSON line: who answered how many calls, and with which
// status codes (numbers) the others failed. `client.py` beside this folder is the same on grpcio.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	xdscreds "google.golang.org/grpc/credentials/xds"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	_ "google.golang.org/grpc/xds" // the scheme xds:///
)

// order is what to call, how often, and how long to wait for each call.
type order struct {
	Target   string            `json:"target"`
	Method   string            `json:"method"`
	Count    int               `json:"count"`
	Timeout  float64           `json:"timeout"`
	Metadata map[string]string `json:"metadata"`
}

// answer counts what the calls came to; Detail is the last failure's text.
type answer struct {
	Served map[string]int `json:"served"`
	Failed map[int]int    `json:"failed"`
	Detail string         `json:"detail"`
}

// raw passes bytes through.
type raw struct{}

func (raw) Marshal(value any) ([]byte, error) { return *value.(*[]byte), nil }
func (raw) Unmarshal(data []byte, value any) error {
	*value.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (raw) Name() string { return "proto" }

func main() {
	transport := insecure.NewCredentials()
	if len(os.Args) > 1 && os.Args[1] == "xds" {
		transport = xds(transport)
	}
	channels := map[string]*grpc.ClientConn{}
	orders := bufio.NewScanner(os.Stdin)
	for orders.Scan() {
		var todo order
		if err := json.Unmarshal(orders.Bytes(), &todo); err != nil {
			log.Fatal(err)
		}
		if channels[todo.Target] == nil {
			channel, err := grpc.NewClient(todo.Target, grpc.WithTransportCredentials(transport))
			if err != nil {
				log.Fatal(err)
			}
			channels[todo.Target] = channel
		}
		done, err := json.Marshal(call(channels[todo.Target], todo))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(done))
	}
}

func xds(fallback credentials.TransportCredentials) credentials.TransportCredentials {
	made, err := xdscreds.NewClientCredentials(xdscreds.ClientOptions{FallbackCreds: fallback})
	if err != nil {
		log.Fatal(err)
	}
	return made
}

func call(channel *grpc.ClientConn, todo order) answer {
	done := answer{Served: map[string]int{}, Failed: map[int]int{}}
	for range todo.Count {
		name, err := once(channel, todo)
		if err != nil {
			done.Failed[int(status.Code(err))]++
			done.Detail = err.Error()
		} else {
			done.Served[name]++
		}
	}
	return done
}

func once(channel *grpc.ClientConn, todo order) (string, error) {
	wait := time.Duration(todo.Timeout * float64(time.Second))
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	ctx = metadata.NewOutgoingContext(ctx, metadata.New(todo.Metadata))
	request, reply := []byte{}, []byte{}
	err := channel.Invoke(ctx, todo.Method, &request, &reply, grpc.ForceCodec(raw{}))
	return string(reply), err
}
