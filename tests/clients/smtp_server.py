"""An SMTP server with a certificate. The certificate of its authority is written to a file.

    smtp_server.py AUTHORITY_FILE

Prints one JSON document per line: first the ports for STARTTLS, for TLS and without TLS, then each
message that arrives. The user `reports` has the password `correct horse`. The first message to
`busy@example.com` gets a 4xx reply. The first message to `twice@example.com` is stored, but the
reply is a temporary error. Each message to `gone@example.com` is rejected.
Needs: aiosmtpd, trustme.
"""

import asyncio
import email
import email.policy
import json
import ssl
import sys

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

HEADERS = ("From", "To", "Subject", "Date", "Message-ID", "Auto-Submitted")
REFUSED = set()


def is_first(address):
    if address in REFUSED:
        return False
    REFUSED.add(address)
    return True


class Handler:
    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == "gone@example.com":
            return "550 no such mailbox, says reports with correct horse"
        if address == "busy@example.com" and is_first(address):
            return "451 try again later"
        envelope.rcpt_tos.append(address)
        return "250 fine"

    async def handle_DATA(self, server, session, envelope):
        message = email.message_from_bytes(envelope.content, policy=email.policy.default)
        encrypted = session.ssl is not None or server.transport.get_extra_info("cipher") is not None
        document = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": encrypted,
            "user": session.auth_data and session.auth_data.login.decode(),
            "headers": {name: str(message[name]) for name in HEADERS},
            "text": message.get_content().replace("\r\n", "\n"),
        }
        print(json.dumps(document), flush=True)
        if "twice@example.com" in envelope.rcpt_tos and is_first("twice@example.com"):
            return "451 stored, but try again"
        return "250 stored"


def authenticate(server, session, envelope, mechanism, data):
    expected = LoginPassword(b"reports", b"correct horse")
    return AuthResult(success=data == expected, auth_data=data, handled=False)


async def main():
    authority = trustme.CA()
    authority.cert_pem.write_to_path(sys.argv[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    loop = asyncio.get_running_loop()
    login = {"authenticator": authenticate, "auth_required": True}

    def starttls():
        return SMTP(Handler(), tls_context=context, require_starttls=True, **login)

    def tls():
        return SMTP(Handler(), auth_require_tls=False, **login)

    servers = [
        await loop.create_server(starttls, "127.0.0.1", 0),
        await loop.create_server(tls, "127.0.0.1", 0, ssl=context),
        await loop.create_server(lambda: SMTP(Handler()), "127.0.0.1", 0),
    ]
    print(json.dumps([one.sockets[0].getsockname()[1] for one in servers]), flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
