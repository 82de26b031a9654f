package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/portforward"
)

const (
	idle     = time.Hour
	creation = 30 * time.Second
)

// runKubelet is as much of a kubelet as port-forward needs: it serves HTTPS at a free port of
// 127.0.0.1, and says at which in the first line of its output. A pod's ports lead where the file
// says, a JSON object from NAMESPACE/POD:PORT to HOST:PORT, which is read anew for each connection.
func runKubelet(arguments []string) {
	if len(arguments) != 1 {
		fail(usage)
	}
	places := places(arguments[0])
	server := httptest.NewTLSServer(http.HandlerFunc(
		func(writer http.ResponseWriter, request *http.Request) {
			pod, found := strings.CutPrefix(request.URL.Path, "/portForward/")
			if !found {
				http.NotFound(writer, request)
				return
			}
			portforward.ServePortForward(
				writer, request, places, pod, "", &portforward.V4Options{},
				idle, creation, portforward.SupportedProtocols,
			)
		},
	))
	fmt.Println(server.Listener.Addr().(*net.TCPAddr).Port)
	select {}
}

// places is the file that says where ports of pods lead.
type places string

// PortForward copies both ways until the port has said all.
func (file places) PortForward(
	_ context.Context, pod string, _ string, port int32, stream io.ReadWriteCloser,
) error {
	defer stream.Close()
	text, err := os.ReadFile(string(file))
	if err != nil {
		return err
	}
	var known map[string]string
	if err := json.Unmarshal(text, &known); err != nil {
		return err
	}
	place, found := known[fmt.Sprintf("%s:%d", pod, port)]
	if !found {
		return fmt.Errorf("connection refused: nothing listens at port %d of %s", port, pod)
	}
	connection, err := net.Dial("tcp", place)
	if err != nil {
		return err
	}
	defer connection.Close()
	go func() {
		_, _ = io.Copy(connection, stream)
		_ = connection.(*net.TCPConn).CloseWrite()
	}()
	_, err = io.Copy(stream, connection)
	return err
}
