// Command testcontrol is a control server in memory: whoever logs in is a member.
//
// It prints its URL on one line, then serves until it is ended. A member gets a map of
// its own from then on when it is put at /derpmap/HOSTNAME.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"

	"tailscale.com/tailcfg"
	"tailscale.com/tstest/integration/testcontrol"
)

func main() {
	mapFile := flag.String("map", "", "`file` with the DERPMap that members get")
	flag.Parse()
	raw, err := os.ReadFile(*mapFile)
	exitIf(err)
	derpMap, err := parse(raw)
	exitIf(err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	exitIf(err)
	url := "http://" + listener.Addr().String()
	control := &testcontrol.Server{
		DERPMap:          derpMap,
		ExplicitBaseURL:  url,
		AllNodesSameUser: true,
	}
	mux := http.NewServeMux()
	mux.Handle("/", control)
	mux.HandleFunc("PUT /derpmap/{hostname}", func(w http.ResponseWriter, r *http.Request) {
		if err := putMap(control, r); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	fmt.Println(url)
	log.Fatal(http.Serve(listener, mux))
}

func exitIf(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func parse(raw []byte) (*tailcfg.DERPMap, error) {
	derpMap := new(tailcfg.DERPMap)
	return derpMap, json.Unmarshal(raw, derpMap)
}

func putMap(control *testcontrol.Server, request *http.Request) error {
	raw, err := io.ReadAll(request.Body)
	if err != nil {
		return err
	}
	derpMap, err := parse(raw)
	if err != nil {
		return err
	}
	hostname := request.PathValue("hostname")
	for _, node := range control.AllNodes() {
		if node.Hostinfo.Valid() && node.Hostinfo.Hostname() == hostname {
			if !control.AddRawMapResponse(node.Key, &tailcfg.MapResponse{DERPMap: derpMap}) {
				return fmt.Errorf("%s does not listen", hostname)
			}
			return nil
		}
	}
	return fmt.Errorf("no member is called %s", hostname)
}
