"""The stages of a set on its way to a grid, by the names that times, topics and texts have for them."""

from panoocc_core.step import STAGES as NETWORK_STAGES

QUEUE, DECODE, PUBLISH = "queue", "decode", "publish"
ARRIVAL_TO_READY, ARRIVAL_TO_OUTPUT, BESIDE_NETWORK = "arrival_to_ready", "arrival_to_output", "beside_network"
READY_TO_OUTPUT, STAMP_TO_OUTPUT = "ready_to_output", "stamp_to_output"

STAGES = {  # in their order -> what happens
    ARRIVAL_TO_READY: "from a set's last image to the set complete with its transforms",
    QUEUE: "a complete set waits for the worker",
    DECODE: "images are decoded, as far as that was not done while they were awaited, and rectified",
    **NETWORK_STAGES,
    PUBLISH: "messages are made and sent",
    READY_TO_OUTPUT: "from a set complete with its transforms to its grid published",
    ARRIVAL_TO_OUTPUT: "from a set's last image to its grid published",
    BESIDE_NETWORK: "the same without the network's own stages",
    STAMP_TO_OUTPUT: "from the reference image's stamp to its grid published, where both clocks are one",
}
SUMS = (ARRIVAL_TO_READY, READY_TO_OUTPUT, ARRIVAL_TO_OUTPUT, BESIDE_NETWORK, STAMP_TO_OUTPUT)  # of several stages


def stage_topic(stage: str) -> str:
    """The topic with the times of a stage, below `~/`."""
    return f"debug/{stage}_ms"
