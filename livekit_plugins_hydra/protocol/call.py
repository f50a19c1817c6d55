"""What outlives a connection: owed replies, untold function results, changed instructions.

A `Call` drives one `Conversation` after another and does no I/O either: it takes the server's
events and the session's wishes, and returns effects. `demand` has the ways to get a reply on
demand, `results` what functions have returned, and whether the user was told.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from . import effects as fx
from . import events as ev
from .ceiling import SUSPECT_BYTES
from .conversation import Conversation
from .demand import CONFIGURED, Demand
from .errors import ServerError
from .learned import Learned
from .line import Line
from .memory import Memory, Side
from .renewal import ANSWER_S, Renewal
from .reply import Reply
from .results import Results
from .states import SETUP, About, Asked, Awaited, Handshake, Input, Setup, Signal, Turn, next_state
from .voices import SERVER_DEFAULT_VOICE

GREETING_WINDOW_S: Final = 0.05
"""How long the first configuration waits for a greeting to join it.

`on_enter` asks about 2 ms after the session is configured (measured, livekit-agents 1.8.9).
"""

NARRATION_S: Final = 1.0
"""How long new instructions wait for the reply to outputs to be asked for. Our choice."""


class Call:
    """One call, over all its connections."""

    def __init__(
        self,
        *,
        new_event_id: Callable[[], str],
        learned: Learned | None = None,
        greet: bool = False,
        knows_user_text: bool = False,
        knows_agent_text: bool = False,
    ) -> None:
        """Begin a call.

        Args:
            new_event_id: mints the `event_id` of each event that we send.
            learned: what is known of the server; the call adds to it.
            greet: the model speaks first, without being asked.
            knows_user_text: an STT transcribes the user.
            knows_agent_text: an STT transcribes the agent.
        """
        self._new_event_id = new_event_id
        self._setup = Setup.INCOMPLETE
        self._call_ids: set[str] = set()
        self._line = Line(Conversation(new_event_id, self._call_ids))
        self._results = Results()
        self._demand = Demand(learned if learned is not None else Learned(), self._results)
        self.texts = self._demand.texts
        """What the session's history has and the server will be told."""
        self._owes_greeting = greet
        """Whether the model still has to speak first."""
        self._voice: str | None = None
        """The voice that the server was asked for."""
        self._memory = Memory(Side(knows_user_text), Side(knows_agent_text))
        self._was_ready = False
        self._was_touched = False
        """Whether something was said on an earlier connection."""
        self._renewal = Renewal()

    def __repr__(self) -> str:
        reply = self._demand.reply.asked.name if self._demand.reply else "none"
        return f"<Call {self.conversation!r} {self._line.awaited.name} reply={reply}>"

    @property
    def conversation(self) -> Conversation:
        """The present connection's conversation."""
        return self._line.conversation

    @property
    def is_occupied(self) -> bool:
        """Whether the agent will speak: a reply is owed, functions run, or results wait."""
        is_owed = self._demand.reply is not None or self._results.due_at is not None
        return is_owed or bool(self.conversation.open_calls)

    # ----------------------------------------------------------------- the connection's life

    def open(self) -> list[fx.Effect]:
        """The socket is open."""
        return self.conversation.open()

    def receive(
        self, event: ev.ServerEvent | ev.UnknownEvent, now: float, played_until: float = 0.0
    ) -> list[fx.Effect]:
        """Take one event of the server.

        Args:
            event: what came.
            now: monotonic clock.
            played_until: when playback of all audio so far ends; not needed for audio events.
        """
        user_was_quiet = self.conversation.turn is Turn.QUIET
        effects = self.conversation.receive(event, now)
        if type(event) is ev.ResponseOutputAudioDelta:  # fifty a second, and none changes the call
            return effects
        out: list[fx.Effect] = []
        for effect in effects:
            out += self._relay(effect, now, user_was_quiet=user_was_quiet)
        return out + self._advance(now, played_until)

    def configurable(self, now: float) -> list[fx.Effect]:
        """Instructions, history and tools are known: `Compose` may follow."""
        if not self._move_setup(Signal.CONFIGURABLE):
            return []
        return [fx.StartTimer("greeting_window", GREETING_WINDOW_S), *self._advance(now)]

    def configure(self, session: ev.ClientSession, now: float) -> list[fx.Effect]:
        """Send the configuration that `Compose` asked for; it holds all texts so far."""
        out = self.conversation.configure(session, now)
        self._voice = session.voice
        self._move_setup(Signal.CONFIGURE)
        self._renewal.configured()
        self.texts.clear()
        if session.generate_initial_response:
            out += self._line.move(Signal.GREETS)
            if self._demand.reply:
                self._demand.reply.asked = Asked.GREETING
        return [*out, fx.CancelTimer("greeting_window")]

    def lose(self, now: float, *, keeps_turn: bool = False) -> list[fx.Effect]:
        """The connection has ended. The next one is a new conversation; replies stay owed.

        Args:
            now: monotonic clock.
            keeps_turn: the next server gets the user's speech again and is expected to answer it;
                a reply is asked for only if it does not.
        """
        keeps_turn |= self._line.awaited is Awaited.TURN and not self.conversation.is_ready
        line = self._line
        self._line = Line(Conversation(self._new_event_id, self._call_ids))
        if keeps_turn:
            self._line.awaited = Awaited.TURN
        has_called = bool(line.conversation.open_calls)
        out = line.conversation.lose()
        out += self._owe_again(line, out, now) if not has_called else []
        self._results.lost()
        self._was_touched |= not line.conversation.is_untouched
        if self._demand.reply:
            self._demand.reply.hold()
        out += self._demand.clock(self._line, now)
        return [*out, fx.CancelTimer("reply_silence"), fx.CancelTimer("awaited")]

    def _owe_again(self, line: Line, lost: list[fx.Effect], now: float) -> list[fx.Effect]:
        """Owe again what was lost before its first audio: the framework believes it was said."""
        silent = [
            effect.response_id
            for effect in lost
            if isinstance(effect, fx.EndResponse)
            and effect.status == "lost"
            and effect.first_audio_at is None
        ]
        demand = self._demand
        if self._results.is_given_up and demand.reply is None:
            self._results.due_at = now
        if demand.reply is not None or line.begun is None or line.begun[0] not in silent:
            return []
        return demand.owe(line.begun[1].anew())

    def end(self, reason: str, now: float) -> list[fx.Effect]:
        """The call is over; nothing is open or owed any more."""
        self._line.begun = None
        return [*self._demand.give_up(reason, self._line, now), *self.lose(now)]

    def timer(self, name: str, now: float, played_until: float = 0.0) -> list[fx.Effect]:
        """A timer that an effect asked for has run out."""
        out: list[fx.Effect] = []
        match name:
            case "greeting_window":
                self._move_setup(Signal.OVERDUE)
            case "awaited":
                out += self._line.overdue()
            case "output":
                out += [fx.OutputDropped(call_id) for call_id in self._results.take_dropped()]
            case "reply_deadline":
                out += self._demand.overdue(self._line, now)
            case "reply_limit":
                out += self._end_wait(now)
            case "reply_silence":
                ignored = self._demand.ignored(
                    self._line, now, is_remembered=self._memory.is_complete
                )
                out += self._leave_if(ignored, now)
            case "narrate" | "instructions":
                pass  # _advance() checks whether the time has come
            case _:
                for effect in self.conversation.timer(name, now):
                    out += self._relay(effect, now, user_was_quiet=True)
        return out + self._advance(now, played_until)

    def _end_wait(self, now: float) -> list[fx.Effect]:
        """The reply was owed for too long; one that was to open the call is kept without a future.

        The caller has heard nothing yet: somebody has to greet, whenever that is.
        """
        reply = self._demand.reply
        is_greeting = self._is_beginning and not self._was_ready
        awaited = self._line.awaited
        out = self._demand.overdue(self._line, now)
        if reply is not None and is_greeting:
            self._demand.reply, self._line.awaited = replace(reply, id=None), awaited
        return out

    def _move_setup(self, why: Input) -> bool:
        state = next_state(SETUP, self._setup, why)
        self._setup = state or self._setup
        return state is not None

    # ------------------------------------------------------------------- the session's wishes

    def generate_reply(self, reply_id: str, instructions: str, now: float) -> list[fx.Effect]:
        """Owe a reply; it replaces one that is pending."""
        out = self._demand.want(reply_id, instructions, self._about(), self._line, now)
        self._results.due_at = None
        self._results.move(Signal.WANTED)
        return out + self._advance(now)

    def cancel_reply(self, reply_id: str, now: float, played_until: float = 0.0) -> list[fx.Effect]:
        """Stop owing a reply; if its response comes anyway, it is cancelled."""
        if self._demand.reply is None or self._demand.reply.id != reply_id:
            return []
        return [*self._demand.cancel(self._line, now), *self._advance(now, played_until)]

    def announce_output(self, call_id: str, *, within_s: float) -> list[fx.Effect]:
        """A function has returned; the framework will post its output, or drop it.

        Args:
            call_id: the function call.
            within_s: after this time it counts as dropped.
        """
        is_doubtful = self._results.announced(call_id)
        return [fx.StartTimer("output", within_s)] if is_doubtful else []

    def post_output(
        self, call_id: str, output: str, *, as_text: str, now: float, played_until: float = 0.0
    ) -> list[fx.Effect]:
        """Send a function's output; `as_text` if an earlier connection called the function."""
        out: list[fx.Effect] = []
        if call_id in self.conversation.open_calls:
            out += self.conversation.post_output(call_id, output)
            self._results.sent(output, now)
        elif output:
            self.texts.add("system", as_text, About.OUTPUTS)
        self._results.returned(call_id, output, now)
        return out + self._advance(now, played_until)

    def update_tools(self, tools: list[ev.Tool]) -> list[fx.Effect]:
        """Replace the tools; before the configuration is sent, they go into it."""
        if self.conversation.handshake in CONFIGURED:
            return self.conversation.update_tools(tools)
        return []

    def instructions_changed(
        self, now: float, played_until: float = 0.0, *, is_stale: bool = True
    ) -> list[fx.Effect]:
        """Make a new connection with the new instructions at the next quiet moment."""
        if self.conversation.handshake not in CONFIGURED:
            return []
        self._renewal.instructions_changed(now, is_stale=is_stale)
        return self._advance(now, played_until)

    def start_over(self, now: float) -> list[fx.Effect]:
        """Make a new connection at once: the conversation is another one from now on."""
        if self.conversation.handshake not in CONFIGURED:
            return []
        self.texts.clear()
        out = self._leave_if([fx.Reconnect("another agent, who knows less, goes on")], now)
        self._was_touched = False
        self._memory.forget()
        return out

    def interrupt(self) -> list[fx.Effect]:
        """Cancel the response that is generating, if there is one.

        Functions that run go on, but the framework asks for no reply to their outputs. That is
        right if the application asks for nothing more. If it asks for another reply, as a room
        does with typed text, the call itself asks for the reply to the outputs.
        """
        self._results.move(Signal.INTERRUPTED)
        return self.conversation.cancel_response()

    # -------------------------------------------------------------------------- relaying

    def _relay(self, effect: fx.Effect, now: float, *, user_was_quiet: bool) -> list[fx.Effect]:
        """Pass on an effect of the conversation, with what it changes in the call."""
        match effect:
            case fx.BeginResponse(is_late=False):
                return self._begin(effect, now, user_was_quiet=user_was_quiet)
            case fx.SessionReady():
                self._was_ready = True
                return [effect, *self._line.ready()]
            case fx.UserStarted():
                return [effect, *self._user_started(now)]
            case fx.EndResponse(
                status="completed" | "failed", first_audio_at=None, has_called=False
            ) if self.conversation.is_free and not self.conversation.has_begun_to_answer:
                return [effect, *self._end_silent(effect, now)]
            case fx.EndStreams(part_id=part_id, cut=True):
                if not self.conversation.has_begun_to_answer:
                    self._line.cut_unsaid(part_id, self._results, now)
            case fx.EndResponse():
                self._line.ended(effect)
            case fx.CallFunction(call_id=call_id):
                self._results.called(call_id)
            case fx.UserStopped():
                return [effect, *self._line.move(Signal.STOPPED)]
            case fx.UserTurnKept():
                self._line.make_up()
            case fx.UserText():
                self._memory.user.is_transcribed = True
            case fx.OutputText() | fx.OutputTranscript():
                self._memory.agent.is_transcribed = True
            case fx.Fault(error=ServerError(code="internal_error", event_id=None), fatal=False):
                return [effect, *self._ask_another_server(now)]
            case fx.Fault(error=ServerError() as error, fatal=False):
                return self._demand.refused(error, self._line, now) or [effect]
            case fx.Fault(error=ServerError() as error) if error.is_about("voice"):
                return self._fall_back(now) or [effect]
        return [effect]

    def _end_silent(self, end: fx.EndResponse, now: float) -> list[fx.Effect]:
        """A response ended without audio: if it failed, or too much was sent, another answers."""
        load, line = self.conversation.load, self._line
        has_failed = end.status == "failed"
        if not has_failed and load.bytes < SUSPECT_BYTES:
            return [fx.UserAnswered()]
        told: list[fx.Effect] = [] if has_failed else [fx.FellSilent(load.bytes)]
        if not self._renewal.may_recover(now):
            return [*told, fx.UserAnswered()]
        if not has_failed:
            self._renewal.shrink(load)
        out = self.lose(now, keeps_turn=line.answers_turn)
        begun = line.begun
        if begun is not None and begun[0] == end.response_id and self._demand.reply is None:
            out += self._demand.owe(begun[1].anew())
        return [*told, *out, fx.Reconnect("the server ended a response without any audio")]

    def _ask_another_server(self, now: float) -> list[fx.Effect]:
        """The server has failed at the user's question: a new connection hears it again, once.

        Source: "server exception: reconnect once" (docs of 2026-08-21).
        """
        has_asked = self.conversation.turn is Turn.ENDED
        reply = self._demand.reply
        is_awaited = has_asked or (reply is not None and reply.is_asked)
        if not is_awaited or not self._renewal.may_recover(now):
            return []
        return [*self.lose(now, keeps_turn=has_asked), fx.Reconnect("the server has failed")]

    def _fall_back(self, now: float) -> list[fx.Effect]:
        """The server refuses the voice: any other than its default is replaced by that.

        Source: the six voices of `hydra` were refused on 2026-08-20 (probe).
        """
        voice = self._voice or ""
        if voice == SERVER_DEFAULT_VOICE:
            return []
        self._demand.learned.voices_refused.add(voice)
        instead = fx.UseVoice(refused=voice, voice=SERVER_DEFAULT_VOICE)
        return [instead, *self.lose(now), fx.Reconnect("another voice")]

    def _user_started(self, now: float) -> list[fx.Effect]:
        demand = self._demand
        self._memory.user.has_spoken = True
        out = self._line.move(Signal.SPEAKS)
        self._results.move(Signal.SPEAKS)
        out += demand.interrupted(self._line, now)
        return [*out, *demand.send_texts(self._line, now)]

    def _begin(
        self, effect: fx.BeginResponse, now: float, *, user_was_quiet: bool
    ) -> list[fx.Effect]:
        """Decide what a response is: unwanted, the server's own, or the owed reply."""
        demand, results, line = self._demand, self._results, self._line
        is_unwanted = line.awaited in (Awaited.DEBT, Awaited.LATE)
        is_greeting, self._owes_greeting = self._owes_greeting, False
        line.make_up()
        settled = line.move(Signal.BEGINS)
        if is_unwanted:
            cancelled = self.conversation.cancel_response()
            return settled + [e for e in cancelled if not isinstance(e, fx.EndStreams)]
        self._memory.agent.has_spoken = True
        line.answers_turn = not user_was_quiet
        if demand.accepts():
            demand.learn_from_response(line, now, user_was_quiet=user_was_quiet)
            return [*settled, fx.UserTurnKept(), *demand.fulfil(effect, line)]
        if line.answers_turn:
            settled += demand.passed_over(line, now)
        tells = results.due_at is not None or results.is_sent
        if demand.reply is None and (is_greeting or tells):
            reply = Reply(None, about=About.OUTPUTS if tells else About.START, tells_outputs=tells)
            line.begun = (effect.part_id, reply)
        results.told(but_texts=demand.has_result_as_text)
        return [*settled, fx.UserTurnKept(), effect]

    # -------------------------------------------------------------------------- advancing

    def _advance(self, now: float, played_until: float = 0.0) -> list[fx.Effect]:
        """Do what is possible now; called after every change."""
        self._renewal.watch(self.conversation.load, now)
        if self.conversation.handshake is Handshake.CREATED:
            return self._compose() if self._setup is not Setup.INCOMPLETE else []
        if self._demand.reply is not None:
            return self._advance_reply(now)
        if not self._is_quiet:
            return []
        if self._results.due_at is not None:
            return self._advance_narration(max(self._results.due_at, played_until), now)
        if unsaid := self._line.unsaid:
            self._line.make_up()
            return [*self._demand.owe(unsaid), *self._advance_reply(now)]
        if self._renewal.reason:
            told_at = self._results.sent_at + NARRATION_S
            quiet_at = max(told_at, self.conversation.unanswered_since + ANSWER_S, played_until)
            return self._advance_renewal(max(self._renewal.stable_at, quiet_at), now)
        return []

    @property
    def _is_quiet(self) -> bool:
        """Whether nobody speaks, nothing is in flight and nothing is awaited."""
        conversation = self.conversation
        is_busy = bool(conversation.open_calls) or self._line.is_held_back
        return conversation.is_free and not is_busy

    def _compose(self) -> list[fx.Effect]:
        reply = self._demand.reply
        if self._setup is Setup.WINDOW and reply is None:
            return []
        is_owed = self._owes_greeting or reply is not None or self._results.due_at is not None
        greet = is_owed and self._line.awaited is not Awaited.TURN
        opening = (reply.opening if reply else self._about().value) if greet else ""
        return [fx.Compose(greet, opening, self._renewal.budget_bytes)]

    def _about(self) -> About:
        """Return what a response without a cause on its own connection is about."""
        if about := self.texts.last_about:
            return about
        results = self._results
        if results.is_sent or results.has_news or results.due_at is not None:
            return About.OUTPUTS
        return About.START if self._is_beginning else About.NEXT

    @property
    def _is_beginning(self) -> bool:
        """Whether nobody has spoken in this call yet."""
        return self.conversation.is_untouched and not self._was_touched

    def _advance_reply(self, now: float) -> list[fx.Effect]:
        renewal = "" if self._wait_to_renew_s(now) > 0 else self._renewal.reason
        is_remembered = self._memory.is_complete
        out = self._demand.advance(self._line, now, renewal=renewal, is_remembered=is_remembered)
        return [*self._leave_if(out, now), *self._demand.clock(self._line, now)]

    def _advance_narration(self, at: float, now: float) -> list[fx.Effect]:
        """Ask for the reply to outputs that the framework does not ask for; see `results`.

        It waits until the answer before it was played. A reply that the framework has queued
        behind that answer is dropped when the user speaks, and the server believes that it was
        played.
        """
        if at > now:
            return [fx.StartTimer("narrate", at - now)]
        self._results.due_at = None
        owed = self._demand.owe(Reply(None, about=About.OUTPUTS, tells_outputs=True))
        return [*owed, *self._advance_reply(now)]

    def _advance_renewal(self, at: float, now: float) -> list[fx.Effect]:
        """Reconnect when nobody speaks: no server hears the user meanwhile."""
        wait_s = max(at - now, self._wait_to_renew_s(now))
        if wait_s > 0:
            return [fx.StartTimer("instructions", wait_s)]
        self._demand.reconnects.take(now)
        return self._leave_if([fx.Reconnect(self._renewal.reason)], now)

    def _wait_to_renew_s(self, now: float) -> float:
        """Return how long to wait before a reconnect for new instructions."""
        return max(self._renewal.wait_s(now), self._demand.reconnects.wait_s(now))

    def _leave_if(self, effects: list[fx.Effect], now: float) -> list[fx.Effect]:
        """Leave this connection if `effects` ask for a new one."""
        if not any(isinstance(effect, fx.Reconnect) for effect in effects):
            return effects
        self._renewal.made(now)
        return [*self.lose(now), *effects]
