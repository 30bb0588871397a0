package store

import "testing"

// A sender whose command another one has taken meanwhile leaves alone what came after it.
func TestASenderTakesNothingButItsOwnCommand(t *testing.T) {
	p := newPipeliner(nil)
	own, other := &pending{}, &pending{}
	if !p.enqueue(own) || p.enqueue(other) {
		t.Fatal("want that the first one sends, for the second one too")
	}
	if p.takeOnly(own) {
		t.Error("it took its own command and dropped another's")
	}
	if batch := p.next(nil); len(batch) != 2 {
		t.Fatalf("%d commands; want both", len(batch))
	}
	p.enqueue(other)
	if p.takeOnly(own) {
		t.Error("it took another's command")
	}
	if batch := p.next(nil); len(batch) != 1 || batch[0] != other {
		t.Errorf("%d commands; want the other one", len(batch))
	}
}
