package cachebucket

import "sync"

// flights are the pieces being read at this moment, so that nobody reads one that somebody else is reading.
type flights struct {
	mu      sync.Mutex // guards running
	running map[string]*flight
}

// flight is one piece being read. value may be looked at once done is closed; nil: it was not read.
type flight struct {
	done  chan struct{}
	value []byte
}

// join returns the flight of a key, and whether the caller is to do it. Then it must call land.
func (f *flights) join(key string) (fl *flight, mine bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl = f.running[key]; fl != nil {
		return fl, false
	}
	fl = &flight{done: make(chan struct{})}
	f.running[key] = fl
	return fl, true
}

// land ends a flight, with nil where nothing came of it.
func (f *flights) land(key string, fl *flight, value []byte) {
	fl.value = value
	f.mu.Lock()
	delete(f.running, key)
	f.mu.Unlock()
	close(fl.done)
}
