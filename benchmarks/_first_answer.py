"""A program that opens a folder, serves it, and asks one question over HTTP; it tells when it had the answer.

    python benchmarks/_first_answer.py FOLDER CACHE

Prints `answered` (seconds since the epoch) and `processor` (seconds that this process had by then) as JSON.
"""

import http.client
import json
import sys
import time

from rage_retrievers.local import LOCAL_ORGANIZATION, LOCAL_PIPELINE, LocalServer, LocalService

PATH = f"/v1/org/{LOCAL_ORGANIZATION}/pipelines/{LOCAL_PIPELINE}/retrieval"
ASKED = {"question": "What is a class?", "numResults": 10, "rerank": False, "advanced-query": {"mode": "hybrid"}}

folder, cache = sys.argv[1:]
with LocalService.open(folder, cache_dir=cache) as service, LocalServer(service) as server:
    connection = http.client.HTTPConnection("127.0.0.1", server.port)
    connection.request("POST", PATH, json.dumps(ASKED), {"Authorization": "Bearer b"})
    assert json.loads(connection.getresponse().read())["documents"]
    answered, processor = time.time(), time.process_time()
    connection.close()
print(json.dumps({"answered": answered, "processor": processor}))
