// Command kube is a Kubernetes control plane in one binary, for tests: its first argument picks
// etcd, kube-apiserver or kube-controller-manager; the rest are that program's own flags.
package main

import (
	"fmt"
	"net/url"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: kube etcd DATA_DIR CLIENT_URL PEER_URL | kube-apiserver FLAGS | kube-controller-manager FLAGS"))
	}
	program, arguments := os.Args[1], os.Args[2:]
	switch program {
	case "etcd":
		if err := runEtcd(arguments); err != nil {
			fail(err)
		}
	case "kube-apiserver":
		run(apiserver.NewAPIServerCommand(), arguments)
	case "kube-controller-manager":
		run(controllers.NewControllerManagerCommand(), arguments)
	default:
		fail(fmt.Errorf("unknown program %q", program))
	}
}

func run(command *cobra.Command, arguments []string) {
	command.SetArgs(arguments)
	os.Exit(cli.Run(command))
}

// runEtcd serves one member until it is told to stop. Nothing is synced to disk: the data needs to
// survive a restart of the process, not of the machine.
func runEtcd(arguments []string) error {
	if len(arguments) != 3 {
		return fmt.Errorf("usage: kube etcd DATA_DIR CLIENT_URL PEER_URL")
	}
	client, err := url.Parse(arguments[1])
	if err != nil {
		return err
	}
	peer, err := url.Parse(arguments[2])
	if err != nil {
		return err
	}
	config := embed.NewConfig()
	config.Dir = arguments[0]
	config.UnsafeNoFsync = true
	config.LogLevel = "warn"
	config.ListenClientUrls = []url.URL{*client}
	config.AdvertiseClientUrls = []url.URL{*client}
	config.ListenPeerUrls = []url.URL{*peer}
	config.AdvertisePeerUrls = []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return err
	}
	defer server.Close()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	select {
	case <-stop:
		return nil
	case err := <-server.Err():
		return err
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "kube:", err)
	os.Exit(1)
}
