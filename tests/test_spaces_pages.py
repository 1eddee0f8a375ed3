"""The pages of the spaces."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from twisted.trial.unittest import SynchronousTestCase

from cms.admin.callbridgeapi import operations_of_callbridge
from cms.admin.callbridgepages import CallbridgePages
from cms.callbridge.spaces.administration import SpaceAdministration
from cms.callbridge.spaces.directory import LocalSpaces
from cms.callbridge.spaces.store import SpaceStore
from tests.adminclient import Answer, Client, FakeCallbridge, front
from tests.support import new_folder
from tests.test_admin_login import PoolClock
from tests.test_admin_pages import Form, Names

HOSTILE = "<script>alert(1)</script>\" onload='x"
PASSCODE = "471147"


class SpacePagesTests(SynchronousTestCase):
    """A browser on a Callbridge with spaces."""

    def setUp(self) -> None:
        """One space."""
        self.clock: Any = PoolClock()
        self.spaces = LocalSpaces(SpaceStore(new_folder(self)), self.clock)
        self.addCleanup(self.spaces.close)
        self.store = self.spaces.store
        self.space = self.store.add("Team", uri="team", passcode=PASSCODE)
        role = SpaceAdministration(self.spaces, lambda: ("meet.example.com", "cb1.x"))
        callbridge = FakeCallbridge()
        root = front(operations_of_callbridge(callbridge, self.clock), self.clock, Names())
        CallbridgePages(callbridge, self.clock, role).add_to(root.application.routes)
        self.client = Client(self, root)
        self.at = f"/spaces/{self.space.id}"

    def get(self, path: str, status: int = 200) -> str:
        """A page."""
        answer = self.client.ask("GET", path, authorization="alice")
        self.assertEqual(status, answer.status, answer.body)
        return answer.body.decode()

    def post(self, path: str, page: str = "/spaces", **fields: str) -> Answer:
        """A form with the token of a page."""
        answer = self.client.ask("GET", page, authorization="alice")
        body = urlencode({"token": Form(answer).token(), **fields})
        return self.client.ask("POST", path, body, authorization="alice")

    def test_list(self) -> None:
        """Reached from the first page; neither passcode nor secret is on it; it is searched."""
        self.assertIn('href="/spaces"', self.get("/"))
        listed = self.get("/spaces")
        for shown in ("Team", self.space.call_id, "team@cb1.x", "others with the passcode"):
            self.assertIn(shown, listed)
        for hidden in (PASSCODE, self.space.secret):
            self.assertNotIn(hidden, listed)
        self.assertIn("None.", self.get("/spaces?filter=other"))

    def test_many(self) -> None:
        """A part at a time."""
        for number in range(30):
            self.store.add(f"Space {number:02}")
        first = self.get("/spaces")
        self.assertIn("1 to 25 of 31", first)
        self.assertIn("offset=25", first)
        self.assertIn("26 to 31 of 31", self.get("/spaces?offset=25"))

    def test_add(self) -> None:
        """Made, and shown; what cannot be is said beside its field, and kept."""
        answer = self.post("/spaces", name="Other", uri="", callId="", passcode="")
        self.assertEqual(303, answer.status)
        self.assertIn("Other", self.get(answer.headers["location"]))
        answer = self.post("/spaces", name="Third", uri="team", callId="12", passcode="")
        self.assertEqual(400, answer.status)
        self.assertIn(b"callId", answer.body)
        self.assertIn(b'value="Third"', answer.body)
        answer = self.post("/spaces", name="Third", uri="team", callId="", passcode="")
        self.assertIn(b'id="uri-error"', answer.body)

    def test_change(self) -> None:
        """What differs; an empty passcode takes it away, an absent tick closes the space."""
        shown = self.get(self.at)
        for part in (PASSCODE, self.space.secret, 'checked="checked"'):
            self.assertIn(part, shown)
        fields = {"name": "Squad", "uri": "team", "callId": self.space.call_id, "passcode": ""}
        self.assertEqual(303, self.post(self.at, self.at, **fields).status)
        changed = self.store.space("team")
        self.assertEqual(
            ("Squad", "", False), (changed.name, changed.passcode, changed.non_member_access)
        )
        self.assertEqual(self.space.secret, changed.secret)
        self.assertEqual(400, self.post(self.at, self.at, **{**fields, "passcode": "x"}).status)
        self.post(f"{self.at}/secret", self.at)
        self.assertNotEqual(self.space.secret, self.store.space("team").secret)

    def test_members(self) -> None:
        """Added, shown, removed after a question; a wrong address is said."""
        path = f"{self.at}/members"
        self.assertEqual(
            303, self.post(path, self.at, userJid="Bob", canAddRemoveMember="true").status
        )
        member = self.store.member("team", "bob@meet.example.com")
        self.assertTrue(member.moderates)
        self.assertIn("canAddRemoveMember", self.get(self.at))
        self.assertEqual(400, self.post(path, self.at, userJid="a b").status)
        asked = f"{path}/{member.id}/delete"
        self.assertIn("bob@meet.example.com", self.get(asked))
        self.assertEqual(303, self.post(asked, asked).status)
        self.assertEqual([], self.store.members("team")[0])
        self.get(asked, 400)

    def test_delete(self) -> None:
        """After a question; then there is nothing."""
        self.assertIn("Delete the space Team?", self.get(f"{self.at}/delete"))
        answer = self.post(f"{self.at}/delete", f"{self.at}/delete")
        self.assertEqual("/spaces", answer.headers["location"])
        self.assertIn("There is nothing to show", self.get(self.at, 400))

    def test_without_the_token(self) -> None:
        """A form from elsewhere changes nothing."""
        for path in (
            "/spaces",
            self.at,
            f"{self.at}/delete",
            f"{self.at}/members",
            f"{self.at}/secret",
        ):
            answer = self.client.ask("POST", path, "name=x&userJid=eve", authorization="alice")
            self.assertEqual(403, answer.status, path)
        self.assertEqual(self.space, self.store.space("team"))

    def test_hostile(self) -> None:
        """A name that looks like markup is text."""
        space = self.store.add(HOSTILE)
        for path in ("/spaces", f"/spaces/{space.id}", f"/spaces/{space.id}/delete"):
            shown = self.get(path)
            self.assertNotIn("<script>alert", shown)
            self.assertIn("&lt;script&gt;", shown)
