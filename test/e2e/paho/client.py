"""One client of paho-mqtt 1.6, driven by JSON lines: commands on standard input, events on standard output."""

import base64
import json
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

lock = threading.Lock()


def emit(event, **fields):
    with lock:
        print(json.dumps({"event": event, **fields}), flush=True)


def code_of(reason):
    return reason.value if hasattr(reason, "value") else reason


def properties_of(packet_type, fields):
    """MQTT 5.0 properties by the names that paho has for them; None where there are none."""
    if not fields:
        return None
    properties = Properties(packet_type)
    for name, value in fields.items():
        if name == "CorrelationData":
            value = value.encode()
        elif name == "UserProperty":
            value = [tuple(pair) for pair in value]
        setattr(properties, name, value)
    return properties


def publish_fields(properties):
    fields = {} if properties is None else dict(vars(properties))
    known = {}
    for name in ("ResponseTopic", "ContentType", "MessageExpiryInterval"):
        if name in fields:
            known[name] = fields[name]
    if "CorrelationData" in fields:
        known["CorrelationData"] = fields["CorrelationData"].decode()
    known["UserProperty"] = fields.get("UserProperty", [])
    if "SubscriptionIdentifier" in fields:
        known["SubscriptionIdentifier"] = fields["SubscriptionIdentifier"]
    return known


def connect(command):
    version = command["version"]
    clean = command["clean"]
    client = mqtt.Client(
        command["clientId"],
        protocol=version,
        **({} if version == mqtt.MQTTv5 else {"clean_session": clean}),
    )

    def on_connect(_client, _userdata, flags, reason, _properties=None):
        emit("connected", sessionPresent=bool(flags["session present"]), code=code_of(reason))

    def on_disconnect(_client, _userdata, reason, _properties=None):
        emit("closed", code=code_of(reason))

    def on_subscribe(_client, _userdata, _mid, reasons, _properties=None):
        emit("subscribed", codes=[code_of(reason) for reason in reasons])

    def on_message(_client, _userdata, message):
        emit(
            "message",
            topic=message.topic,
            payload=base64.b64encode(message.payload).decode(),
            qos=message.qos,
            retain=bool(message.retain),
            properties=publish_fields(getattr(message, "properties", None)),
        )

    client.on_connect = on_connect
    client.on_disconnect = on_disconnect
    client.on_subscribe = on_subscribe
    client.on_message = on_message
    if "username" in command:
        client.username_pw_set(command["username"], command.get("password"))
    will = command.get("will")
    if will:
        client.will_set(
            will["topic"],
            base64.b64decode(will["payload"]),
            will["qos"],
            will["retain"],
            **(
                {"properties": properties_of(PacketTypes.WILLMESSAGE, will["properties"])}
                if version == mqtt.MQTTv5
                else {}
            ),
        )
    five = (
        {
            "clean_start": clean,
            "properties": properties_of(PacketTypes.CONNECT, command["properties"]),
        }
        if version == mqtt.MQTTv5
        else {}
    )
    client.connect("127.0.0.1", command["port"], 60, **five)
    # Not loop_start: it would come back by itself.
    threading.Thread(target=loop, args=(client,), daemon=True).start()
    return client


def loop(client):
    while client.loop(1.0) == mqtt.MQTT_ERR_SUCCESS:
        pass


def subscribe(client, version, command):
    if version == mqtt.MQTTv5:
        client.subscribe(
            [(each, SubscribeOptions(qos=command["qos"])) for each in command["filters"]],
            properties=properties_of(PacketTypes.SUBSCRIBE, command["properties"]),
        )
    else:
        client.subscribe([(each, command["qos"]) for each in command["filters"]])


def publish(client, version, command):
    info = client.publish(
        command["topic"],
        base64.b64decode(command["payload"]),
        command["qos"],
        command["retain"],
        **(
            {"properties": properties_of(PacketTypes.PUBLISH, command["properties"])}
            if version == mqtt.MQTTv5
            else {}
        ),
    )
    info.wait_for_publish()
    emit("published")


def main():
    client = None
    version = None
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "connect":
            version = command["version"]
            client = connect(command)
        elif command["do"] == "subscribe":
            subscribe(client, version, command)
        elif command["do"] == "publish":
            publish(client, version, command)
        elif command["do"] == "disconnect":
            client.disconnect()


main()
