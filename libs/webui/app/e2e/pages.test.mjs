// The browser tests, in one process: they share one world. Those that kill a part of it come last.
import './world.mjs';
import './every.mjs';
import './bucket.mjs';
import './query.mjs';
