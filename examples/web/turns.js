// When each side speaks, by how loud it is, and how long each waits for the other.
//
// A browser knows no better clock for what a person hears: the server's words about turns come
// later than the sound. Times are milliseconds of one clock, levels are 0 to 1.

// Speech in a quiet room is over this, the room itself under it.
const LOUD = 0.02;

// A silence of this length ends an utterance; those between words are shorter.
const PAUSE_MS = 500;

// Sound that is shorter is a click.
const MIN_SPEECH_MS = 120;

export class Side {
  isSpeaking = false;
  beganAt = 0;
  loudAt = -Infinity;

  // Take a level; return "began", "ended" or nothing.
  hear(level, now) {
    if (level >= LOUD) {
      if (now - this.loudAt > PAUSE_MS) this.beganAt = now;
      this.loudAt = now;
      if (!this.isSpeaking && now - this.beganAt >= MIN_SPEECH_MS) {
        this.isSpeaking = true;
        return "began";
      }
    } else if (this.isSpeaking && now - this.loudAt > PAUSE_MS) {
      this.isSpeaking = false;
      return "ended";
    }
    return undefined;
  }
}

// Tells, through `on`, what happens between the user and the agent:
//
//     on.userBegan(), on.userEnded(seconds)
//     on.agentBegan(latency)   seconds since the user's last word, undefined where nobody asked
//     on.agentEnded(seconds)
//     on.agentSilenced(delay)  seconds from the user's barge-in to the agent's silence
export class Turns {
  user = new Side();
  agent = new Side();
  #asked = false;
  #interruptedAt = undefined;

  constructor(on) {
    this.on = on;
  }

  hear(userLevel, agentLevel, now) {
    switch (this.user.hear(userLevel, now)) {
      case "began":
        if (this.agent.isSpeaking) this.#interruptedAt = this.user.beganAt;
        this.#asked = true;
        this.on.userBegan();
        break;
      case "ended":
        this.on.userEnded((this.user.loudAt - this.user.beganAt) / 1000);
        break;
    }
    switch (this.agent.hear(agentLevel, now)) {
      case "began":
        this.on.agentBegan(this.#latency());
        this.#asked = false;
        break;
      case "ended":
        if (this.#interruptedAt !== undefined) {
          this.on.agentSilenced(Math.max(0, this.agent.loudAt - this.#interruptedAt) / 1000);
        }
        this.#interruptedAt = undefined;
        this.on.agentEnded((this.agent.loudAt - this.agent.beganAt) / 1000);
        break;
    }
  }

  #latency() {
    const waitedMs = this.agent.beganAt - this.user.loudAt;
    return this.#asked && waitedMs > 0 ? waitedMs / 1000 : undefined;
  }
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
