// The publish bench's peer in Go: net/http and gorilla/websocket. Arguments: the port and the shape of the hub.
//
//	loop      one goroutine at a time writes a prepared message to one subscriber after the other, under a lock
//	channels  each subscriber has a buffered channel and a goroutine that writes what comes out of it
package main

import (
	"log"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

const (
	writeTimeout = 10 * time.Second
	// What may wait for one subscriber in the shape "channels"; one that has more waiting is cut off.
	backlog = 256
)

type subscriber struct {
	conn *websocket.Conn
	send chan *websocket.PreparedMessage
}

// hub knows who subscribed to which topic. The lock is held for a whole publish, so that all see messages in one order.
type hub struct {
	mu       sync.Mutex
	topics   map[string]map[*subscriber]struct{}
	channels bool
}

func (h *hub) add(topic string, s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.topics[topic] == nil {
		h.topics[topic] = make(map[*subscriber]struct{})
	}
	h.topics[topic][s] = struct{}{}
}

func (h *hub) remove(topic string, s *subscriber) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.topics[topic], s)
	if len(h.topics[topic]) == 0 {
		delete(h.topics, topic)
	}
}

func (h *hub) publish(topic string, data []byte) {
	message, err := websocket.NewPreparedMessage(websocket.TextMessage, data)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for s := range h.topics[topic] {
		if !h.channels {
			s.write(message)
			continue
		}
		select {
		case s.send <- message:
		default:
			s.conn.Close()
		}
	}
}

// write closes the connection when it fails; the goroutine that reads from it then takes it off the hub.
func (s *subscriber) write(message *websocket.PreparedMessage) {
	s.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if s.conn.WritePreparedMessage(message) != nil {
		s.conn.Close()
	}
}

func (s *subscriber) writeAll() {
	for message := range s.send {
		s.write(message)
	}
}

// forward publishes whatever text the peer sends, until it goes.
func (h *hub) forward(topic string, conn *websocket.Conn) {
	for {
		kind, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if kind == websocket.TextMessage {
			h.publish(topic, data)
		}
	}
}

func (h *hub) serveSubscriber(upgrader *websocket.Upgrader, w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	topic := r.URL.Query().Get("topic")
	s := &subscriber{conn: conn}
	if h.channels {
		s.send = make(chan *websocket.PreparedMessage, backlog)
		go s.writeAll()
		// After the removal, when nobody sends any more.
		defer close(s.send)
	}
	h.add(topic, s)
	defer h.remove(topic, s)
	h.forward(topic, conn)
}

func (h *hub) servePublisher(upgrader *websocket.Upgrader, w http.ResponseWriter, r *http.Request) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return
	}
	defer conn.Close()
	h.forward("bench", conn)
}

func main() {
	if len(os.Args) != 3 || (os.Args[2] != "loop" && os.Args[2] != "channels") {
		log.Fatal("usage: go-server PORT loop|channels")
	}
	h := &hub{topics: make(map[string]map[*subscriber]struct{}), channels: os.Args[2] == "channels"}
	upgrader := &websocket.Upgrader{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /ws", func(w http.ResponseWriter, r *http.Request) { h.serveSubscriber(upgrader, w, r) })
	mux.HandleFunc("GET /publish", func(w http.ResponseWriter, r *http.Request) { h.servePublisher(upgrader, w, r) })
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], mux))
}
