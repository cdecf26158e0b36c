"""Handlers of the demo's saga."""

from typing import Any

from edo_stream.actions import BusinessError, Call, action


@action(dict)
async def label(command: dict[str, Any], call: Call) -> dict[str, str]:
    """Ask the carrier for a label; it delivers where there is an address."""
    order = command["event"]["inputs"]["order"]["data"]["after"]
    if not order["address"]:
        raise BusinessError("nobody lives there", reason="no-address")
    return {"parcel": f"parcel of {order['id']} for {order['address']}"}
