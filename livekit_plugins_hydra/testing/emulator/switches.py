"""Each single switch of a scenario by name, as the fields that it changes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

SWITCHES: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "ragged_deltas": {"ragged_deltas": True},
        "slow_to_think": {"think_s": 0.2},
        "thinks_before_speech_stopped": {"thinks": "before_speech_stopped", "think_s": 0.2},
        "slow_to_speak": {"first_audio_delay_s": 0.2},
        "slow_handshake": {
            "connect_delay_s": 0.2,
            "created_delay_s": 0.1,
            "configure_delay_s": 0.1,
        },
        "warning_flat": {"deprecated_models": ("hydra-v1.1", "hydra-v1.0", "hydra")},
        "warning_nested": {
            "deprecated_models": ("hydra-v1.1", "hydra-v1.0", "hydra"),
            "warning": "nested",
        },
        "rates_not_echoed": {"echoes_rates": False, "output_rate_hz": None},
        "output_at_48_khz": {"output_rate_hz": 48_000, "echoes_rates": True},
        "output_at_16_khz": {"output_rate_hz": 16_000, "echoes_rates": True},
        "requested_rate_obeyed": {"obeys_requested_rate": True},
        "seed_voices_accepted": {"seed_voices": "accepted"},
        "marin_accepted": {"more_voices": ("marin",)},
        "unknown_voice_replaced": {"unknown_voice": "replaced"},
        "barge_in_when_settled": {"barge_in": "when_settled"},
        "user_item_at_end": {"user_item": "at_end"},
        "speech_stopped_late": {"speech_stopped": "late"},
        "speech_stopped_missing_if_discarded": {"speech_stopped": "missing_if_discarded"},
        "speech_stopped_missing": {"speech_stopped": "missing"},
        "cancelled_items_stay_open": {"cancelled_items_close": False},
        "cancelled_done_late": {"cancelled_done": "after_next_created"},
        "late_deltas": {"late_deltas": 3},
        "bare_create_refused": {"bare_response_create": "refused"},
        "bare_create_ignored": {"bare_response_create": "ignored"},
        "busy_create_ignored": {"busy_response_create": "ignored"},
        "busy_create_queued": {"busy_response_create": "queued"},
        "create_and_turn_both_answered": {"create_beside_turn": "two_answers"},
        "message_items_refused": {"message_items": "refused"},
        "message_items_dropped": {"message_items": "dropped"},
        "calling_done_after_outputs": {"calling_response_done": "after_outputs"},
        "calling_done_never": {"calling_response_done": "never"},
        "speaks_before_calls": {"speaks_before_calls": True},
        "client_items_echoed": {"echoes_client_items": True},
        "no_item_ids": {"item_ids": False},
        "audio_alone_names_its_item": {"delta_item_ids": "audio", "transcripts": True},
        "text_alone_names_its_item": {"delta_item_ids": "text", "transcripts": True},
        "audio_in_another_field": {"audio_delta_field": "audio"},
        "no_indexes": {"indexes": False},
        "no_function_call_ids": {"function_call_ids": False},
        "no_event_ids": {"event_ids": False},
        "errors_name_no_event": {"echoes_event_ids": False},
        "explicit_nulls": {"explicit_nulls": True},
        "no_response_output": {"response_output": False},
        "usage_zero": {"usage": "zero"},
        "usage_absent": {"usage": "absent"},
        "transcripts": {"transcripts": True},
        "transcripts_with_spaces": {"transcripts": True, "transcript_deltas": "spaced_phrases"},
        "transcripts_by_token": {"transcripts": True, "transcript_deltas": "tokens"},
        "user_text": {"user_text": "what the user said"},
        "errors_all_invalid_request": {"error_codes": "invalid_request_error"},
        "errors_all_invalid_frame": {"error_codes": "invalid_frame"},
        "unknown_types_ignored": {"unknown_types": "ignored"},
        "pings_unanswered": {"answers_pings": False},
        "early_audio_ends_session": {"early_audio": "session_ended"},
        "flood_measured_by_queue": {"flood_clock": "queue"},
    }
)
"""The switches under which a good client holds a conversation as if nothing were different."""

FAULTS: Final[Mapping[str, Mapping[str, Any]]] = MappingProxyType(
    {
        "bad_key_401": {"keys": ()},
        "bad_key_403": {"keys": (), "bad_key": "http_403"},
        "bad_key_1008": {"keys": (), "bad_key": "close_1008"},
        "busy_503": {"http_refusals": 1, "http_refusal_status": 503},
        "busy_429": {"http_refusals": 1, "http_refusal_status": 429},
        "server_full": {"server_full_connections": 1},
        "token_for_one_connection": {"token_lifetime_s": 0.0},
        "token_ends_session": {"token_lifetime_s": 1.0, "expired_token": "closed"},
        "never_created": {"handshake": "never_created"},
        "never_configured": {"handshake": "never_configured"},
        "refused_configure_closes": {"after_refused_configure": "closes"},
        "refused_configure_may_be_repeated": {"after_refused_configure": "accepts"},
        "low_payload_ceiling": {"payload_ceiling_bytes": 1024},
        "low_context_ceiling": {"payload_ceiling_bytes": 4096, "payload_ceiling_of": "context"},
        "idle_soon": {"idle_timeout_s": 0.5},
        "tools_time_out_soon": {"tool_response_timeout_s": 0.3},
        "server_full_does_not_close": {
            "server_full_connections": 1,
            "closes_after": ("session_ended",),
        },
        "every_error_closes": {
            "closes_after": (
                "server_full",
                "session_ended",
                "invalid_request_error",
                "invalid_frame",
                "invalid_audio",
                "tool_response_timeout",
                "internal_error",
            )
        },
    }
)
"""The switches that end a call, cost it a reconnect, or refuse it something."""
