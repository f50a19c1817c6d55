"""A local Hydra, to test agents without a key and clients against every doubtful behaviour.

::

    async with Emulator(Scenario(replies=[Say(text="Hello."), Call("weather")])) as server:
        model = hydra.RealtimeModel(base_url=server.url, api_key="anything")

It is a real WebSocket server with real voice activity detection on the audio that it gets, and a
second, independent reading of the protocol: it shares the client's event classes and none of its
logic. What a client does wrong is recorded, and raised when the block is left.

`Scenario` holds the switches. `SWITCHES` names each one under which a good client works as if
nothing were different, `FAULTS` each one that costs a call something; `Scenario.random` combines
the former. The contradictions and unknowns of the protocol (section 5 of our protocol notes, by
number), and what they are here:

====  ==================================  =====================================================
 No.  Unknown or contradiction            Switch of `Scenario`, or why there is none
====  ==================================  =====================================================
   1  output rate                         `output_rate_hz`, `echoes_rates`
   2  size of the client's chunks         `min_append_bytes`; over 100 ms is a violation
   3  unknown voice                       `unknown_voice`, `more_voices`
   4  default voice                       `seed_voices`; an omitted one is a violation, and
                                          becomes ``sterling``, as probed
   5  configuring again after a refusal   `after_refused_configure`
   6  end of a calling response           `calling_response_done`
   7  speech and function call together   `speaks_before_calls`, or a reply of both
   8  `response.create` out of the blue   `bare_response_create`, `busy_response_create`,
                                          `create_beside_turn`; fields in it are a violation
   9  message items                       `message_items`, `echoes_client_items`
  10  seeding history                     none: it comes in the instructions, which `Context` and
                                          `ConnectionRecord.configuration` show
  11  payload ceiling                     `payload_ceiling_bytes`, `payload_ceiling_of`
  12  length of the server's history      none: the emulator answers by script and forgets nothing
  13  transcripts                         `transcripts`, `transcript_deltas`, `user_text`
  14  shape of the warning                `warning`, `deprecated_models`
  15  codes of refusals                   `error_codes`, `unknown_types`, `echoes_event_ids`
  16  audio before `session.configured`   `early_audio`
  17  patience with tools                 `tool_response_timeout_s`
  18  close 1000                          `idle_timeout_s`; `Emulator.close` for a normal one
  19  how a bad key is refused            `bad_key`
  20  `session.update` beyond tools       none: always refused, as every page but one says; a
                                          client that relies on more must fail here
  21  whether an error ends the session   `closes_after`
  22  events after a cancel               `late_deltas`, `cancelled_items_close`,
                                          `cancelled_done`, `barge_in`
  23  usage                               `usage`
  24  expiry of a token                   `token_lifetime_s`, `expired_token`
  25  style tags                          none: nothing here reads instructions aloud
  26  rates that the client asks for      `obeys_requested_rate`
====  ==================================  =====================================================

What real clients showed, run against this emulator (section 8, by letter):

====  ==================================  =====================================================
   a  spaces in transcripts               `transcript_deltas`
   b  transcripts on every tag            `transcripts`
   c  ids in function call events         `function_call_ids`
   d  when the user's item comes          `user_item`
   e  deltas of an odd length             `ragged_deltas`, though they are unlikely
   f  thinking while the user may go on   `thinks`, `first_audio_delay_s`
   g  audio once the user has begun       `barge_in`
   h  size of the client's chunks         as number 2
   i  silence that ends a turn            `silence_ms`
   j  a model that is not named           none: a violation, and served as ``hydra-v1.1``
      fields of audio deltas              `audio_delta_field`
      the voice ``marin``                 `more_voices`
   k  regions                             none: there is one server
   l  `SMALLEST_BASE_URL`                 none: the client's
====  ==================================  =====================================================

Seen to vary, and in neither table: `speech_stopped`, `item_ids`, `delta_item_ids`, `indexes`,
`event_ids`, `explicit_nulls`, `response_output`, `answers_pings`, `handshake`, `max_lead_s`,
`flood_clock`, and the delays `think_s`, `connect_delay_s`, `created_delay_s`,
`configure_delay_s`.
"""
