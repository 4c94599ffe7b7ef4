// Command testcontrol is a control server in memory: whoever logs in is a member.
//
// It prints its URL on one line, then serves until it is ended.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
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
	derpMap, err := readMap(*mapFile)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	url := "http://" + listener.Addr().String()
	control := &testcontrol.Server{
		DERPMap:          derpMap,
		ExplicitBaseURL:  url,
		AllNodesSameUser: true,
	}
	fmt.Println(url)
	log.Fatal(http.Serve(listener, control))
}

func readMap(path string) (*tailcfg.DERPMap, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	derpMap := new(tailcfg.DERPMap)
	return derpMap, json.Unmarshal(raw, derpMap)
}
