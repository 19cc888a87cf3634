// hub: the hub of gorilla/websocket's chat example, one channel of Go for each client,
// fed by a subscription to Redis.
package main

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/gorilla/websocket"
)

type client struct {
	conn *websocket.Conn
	send chan []byte
}

var (
	mutex    sync.RWMutex
	channels = map[string]map[*client]bool{}
	upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
)

func (c *client) write() {
	defer c.conn.Close()
	for message := range c.send {
		if c.conn.WriteMessage(websocket.TextMessage, message) != nil {
			return
		}
	}
}

func (c *client) read(names []string) {
	for {
		if _, _, err := c.conn.NextReader(); err != nil {
			break
		}
	}
	mutex.Lock()
	for _, name := range names {
		delete(channels[name], c)
	}
	mutex.Unlock()
	close(c.send)
}

func serve(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	names := r.URL.Query()["channel"]
	c := &client{conn, make(chan []byte, 256)}
	mutex.Lock()
	for _, name := range names {
		if channels[name] == nil {
			channels[name] = map[*client]bool{}
		}
		channels[name][c] = true
	}
	mutex.Unlock()
	go c.write()
	go c.read(names)
}

func broadcast(name string, message []byte) {
	mutex.RLock()
	defer mutex.RUnlock()
	for c := range channels[name] {
		c.send <- message
	}
}

// bulk reads one "$N" element of an answer.
func bulk(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	if line[0] != '$' {
		return []byte(line), nil
	}
	n, err := strconv.Atoi(strings.TrimSpace(line[1:]))
	if err != nil {
		return nil, err
	}
	data := make([]byte, n+2)
	_, err = io.ReadFull(r, data)
	return data[:n], err
}

func feed() {
	conn, err := net.Dial("tcp", os.Getenv("REDIS"))
	if err != nil {
		log.Fatal(err)
	}
	if _, err = conn.Write([]byte("PSUBSCRIBE wscast:*\r\n")); err != nil {
		log.Fatal(err)
	}
	r := bufio.NewReaderSize(conn, 1<<20)
	for {
		head, err := r.ReadString('\n')
		if err != nil {
			log.Fatal(err)
		}
		n, _ := strconv.Atoi(strings.TrimSpace(head[1:]))
		parts := make([][]byte, n)
		for i := range parts {
			if parts[i], err = bulk(r); err != nil {
				log.Fatal(err)
			}
		}
		if n == 4 && string(parts[0]) == "pmessage" {
			broadcast(strings.TrimPrefix(string(parts[2]), "wscast:"), parts[3])
		}
	}
}

func main() {
	go feed()
	http.HandleFunc("/", serve)
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil))
}
