"""The names that the embedded service answers to unless told otherwise."""

LOCAL_ORGANIZATION = "00000000-0000-4000-8000-000000000000"
LOCAL_PIPELINE = "aip00000-0000-4000-8000-000000000000"
