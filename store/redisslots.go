package store

import (
	"strconv"
	"strings"
	"sync"
)

// slotCount is the number of hash slots of a cluster.
const slotCount = 16384

// slotOf returns the hash slot of key: CRC-16/XMODEM of the text in its first braces, or of the
// whole key (Redis Cluster specification, "Hash tags").
func slotOf(key string) int {
	if _, after, ok := strings.Cut(key, "{"); ok {
		if tag, _, ok := strings.Cut(after, "}"); ok && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for _, b := range []byte(key) {
		crc ^= uint16(b) << 8
		for range 8 {
			carry := crc&0x8000 != 0
			crc <<= 1
			if carry {
				crc ^= 0x1021
			}
		}
	}
	return int(crc) % slotCount
}

// slotTags returns a short text for each hash slot that lies in it.
var slotTags = sync.OnceValue(func() []string {
	tags := make([]string, slotCount)
	for i, left := 0, slotCount; left > 0; i++ {
		tag := strconv.Itoa(i)
		if slot := slotOf(tag); tags[slot] == "" {
			tags[slot] = tag
			left--
		}
	}
	return tags
})

// IdentityKey implements Backend. A cluster has an identity in each hash slot: a primary that
// comes back without its data loses the identities of its slots, and no others.
func (r *Redis) IdentityKey(key string) string {
	if !r.isCluster() {
		return identityKey
	}
	return slotIdentityKey(slotOf(key))
}

// IdentityKeys implements Backend.
func (r *Redis) IdentityKeys() []string {
	if !r.isCluster() {
		return []string{identityKey}
	}
	keys := make([]string, slotCount)
	for slot := range keys {
		keys[slot] = slotIdentityKey(slot)
	}
	return keys
}

func slotIdentityKey(slot int) string { return identityKey + ":{" + slotTags()[slot] + "}" }
