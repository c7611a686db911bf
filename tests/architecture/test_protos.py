"""Rules of the protos that buf has no word for."""

from claude_conductor.v1 import (
    admin_service_pb2,
    agent_service_pb2,
    artefact_service_pb2,
    audit_service_pb2,
    certificate_service_pb2,
    credential_service_pb2,
    enrolment_service_pb2,
    event_service_pb2,
    local_service_pb2,
    message_pb2,
    message_service_pb2,
    schedule_service_pb2,
    session_service_pb2,
    task_service_pb2,
)

FILES = (
    *(admin_service_pb2, agent_service_pb2, artefact_service_pb2, event_service_pb2, local_service_pb2),
    *(audit_service_pb2, certificate_service_pb2, credential_service_pb2, enrolment_service_pb2),
    *(message_service_pb2, schedule_service_pb2, session_service_pb2, task_service_pb2),
)
STREAMS = {
    "SessionService.Connect",
    "TaskService.WatchTask",
    "TaskService.ReadTaskOutput",
    "EventService.WatchEvents",
    "MessageService.ReceiveMessages",
    "ArtefactService.WriteArtefact",
    "ArtefactService.ReadArtefact",
}


def test_only_the_listed_methods_stream():
    streams = {
        f"{service.name}.{method.name}"
        for file in FILES
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if method.client_streaming or method.server_streaming
    }

    assert streams == STREAMS


def test_what_the_fast_path_reads_stays_where_it_is():
    frame = message_pb2.MessageFrame.DESCRIPTOR.fields_by_name
    request = session_service_pb2.ConnectRequest.DESCRIPTOR.fields_by_name
    delivered = message_pb2.DeliveredFrame.DESCRIPTOR.fields_by_name

    assert (frame["header"].number, frame["envelopes"].number) == (1, 2)
    assert (request["sequence"].number, request["message_frame"].number) == (1, 3)
    assert (delivered["header"].number, delivered["frame"].number) == (1, 2)
