#!/bin/sh
# Makes the speech of the demo: each *.txt here is spoken to a *.wav beside it.
#
#     sh examples/speech/make.sh
#
# Needs espeak-ng and sox (Debian: apt-get install espeak-ng sox). The user is recorded at 16 kHz,
# as Hydra hears; the agent at 24 kHz, as Hydra 1.1 speaks. Silence at either end is cut off, so
# that what the demo measures begins and ends with a sound.
set -eu
cd "$(dirname "$0")"

for words in *.txt; do
    case $words in
        agent-*) voice=en-gb+f4 words_per_minute=165 rate=24000 ;;
        user-*) voice=en-us+m3 words_per_minute=160 rate=16000 ;;
    esac
    espeak-ng -v "$voice" -s "$words_per_minute" -f "$words" --stdout |
        sox -t wav - -b 16 "${words%.txt}.wav" \
            silence 1 0.01 -50d reverse silence 1 0.01 -50d reverse \
            gain -6 rate "$rate" norm -6
done
