// Command kube is a Kubernetes control plane in one binary, for tests: its first argument picks
// etcd, kube-apiserver, kube-controller-manager or kubelet; the rest are that program's own arguments.
// Each runs until it is killed or its standard input ends: so none outlives the test run that started
// it, however that ended. None stops gracefully: an API server waits minutes for an etcd that is gone.
package main

import (
	"fmt"
	"io"
	"net/url"
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

const usage = `usage:
  kube etcd
  kube kube-apiserver FLAGS
  kube kube-controller-manager FLAGS
  kube kubelet FILE`

func main() {
	if len(os.Args) < 2 {
		fail(usage)
	}
	program, arguments := os.Args[1], os.Args[2:]
	go exitWithInput()
	switch program {
	case "etcd":
		runEtcd()
	case "kube-apiserver":
		run(apiserver.NewAPIServerCommand(), arguments)
	case "kube-controller-manager":
		run(controllers.NewControllerManagerCommand(), arguments)
	case "kubelet":
		runKubelet(arguments)
	default:
		fail(usage)
	}
}

func exitWithInput() {
	_, _ = io.Copy(io.Discard, os.Stdin)
	os.Exit(0)
}

func run(command *cobra.Command, arguments []string) {
	command.SetArgs(arguments)
	os.Exit(cli.Run(command))
}

// runEtcd serves one member that keeps data and sockets in the working directory: no ports to find.
// Nothing is synced to the disk: the data has to survive the process, not the machine.
func runEtcd() {
	client := url.URL{Scheme: "unix", Host: "etcd:1"} // etcd insists on something like a port
	peer := url.URL{Scheme: "unix", Host: "etcd:2"}
	config := embed.NewConfig()
	config.Name = "only"
	config.Dir = "etcd"
	config.UnsafeNoFsync = true
	config.LogLevel = "error"
	config.ListenClientUrls = []url.URL{client}
	config.AdvertiseClientUrls = []url.URL{client}
	config.ListenPeerUrls = []url.URL{peer}
	config.AdvertisePeerUrls = []url.URL{peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		fail(err)
	}
	fail(<-server.Err())
}

func fail(reason any) {
	fmt.Fprintln(os.Stderr, "kube:", reason)
	os.Exit(1)
}
