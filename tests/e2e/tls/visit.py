"""Opens a channel of gRPC's C core (BoringSSL) to a relay on this machine, as HOST: visit.py PORT HOST CA."""

import sys

import grpc

port, host, ca = sys.argv[1:]
with open(ca, "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
options = [("grpc.ssl_target_name_override", host)]
with grpc.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
    call = channel.unary_unary("/a.Service/Method")
    try:
        call(b"", timeout=60)
    except grpc.RpcError as error:
        # No agent serves the host, so that an answer of the relay itself ends the call.
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            sys.exit(f"refused: {error.code()}: {error.details()}")
        print("accepted")
