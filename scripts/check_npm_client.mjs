// The core of the vendor's npm client against an embedded service: pipelines, retrieval, an upload. Prints what held.
// node check_npm_client.mjs DIRECTORY-OF-NODE-MODULES BASE-URL ORGANIZATION PIPELINE

import assert from "node:assert/strict";
import { createRequire } from "node:module";

const [home, basePath, organizationId, pipelineId] = process.argv.slice(2);
const vendor = createRequire(`${home}/`)("@vectorize-io/vectorize-client");
const configuration = new vendor.Configuration({ basePath, accessToken: "any" });
const pipelines = new vendor.PipelinesApi(configuration);
const uploads = new vendor.UploadsApi(configuration);

async function ask(pipelineId, question, more) {
  const retrieveDocumentsRequest = { question, numResults: 3, ...more };
  return pipelines.retrieveDocuments({ organizationId, pipelineId, retrieveDocumentsRequest });
}

const listed = await pipelines.getPipelines({ organizationId });
assert.deepEqual(listed.data.map((one) => one.id), [pipelineId]);
assert.equal((await pipelines.getPipeline({ organizationId, pipelineId })).data.id, pipelineId);
console.log("pipelines: listed, read");

const answer = await ask(pipelineId, "Why do bees dance?", { rerank: true });
assert.equal(answer.documents[0].source, "bees.md");
assert.equal(typeof answer.documents[0].relevancy, "number");
const filtered = await ask(pipelineId, "Why do bees dance?", { metadataFilters: [{ year: [1999] }] });
assert.deepEqual(filtered.documents.map((one) => one.source), ["engines.md"]);
await assert.rejects(
  new vendor.PipelinesApi(new vendor.Configuration({ basePath })).getPipelines({ organizationId }),
  (error) => error.response.status === 401,
);
console.log("retrieval: reranked, filtered, refused without a token");

// This client's own createSourceConnector knows no type at all and throws before it sends anything.
const send = (method, url, body) =>
  fetch(url, { method, body, headers: { authorization: "Bearer any", "content-type": "application/json" } });
const sources = `${basePath}/org/${organizationId}/connectors/sources`;
const made = await (await send("POST", sources, JSON.stringify({ name: "mine", type: "FILE_UPLOAD" }))).json();
const connectorId = made.connector.id;
const startFileUploadToConnectorRequest = { name: "whales.txt", contentType: "text/plain", metadata: '{"year":1}' };
for (const text of ["Blue whales eat fish", "Blue whales eat krill"]) {
  const start = await uploads.startFileUploadToConnector({
    organizationId, connectorId, startFileUploadToConnectorRequest,
  });
  assert.equal((await fetch(start.uploadUrl, { method: "PUT", body: text })).status, 200);
}
const files = (await uploads.getUploadFilesFromConnector({ organizationId, connectorId })).files;
assert.deepEqual(files.map((one) => one.name), ["whales.txt"]);
console.log("uploads: sent, overwritten, listed");

const of = async (Api, method) => Object.values(await new Api(configuration)[method]({ organizationId }))[0][0].id;
const created = await pipelines.createPipeline({
  organizationId,
  pipelineConfigurationSchema: {
    pipelineName: "mine",
    sourceConnectors: [{ id: connectorId, type: "FILE_UPLOAD", config: {} }],
    destinationConnector: { id: await of(vendor.DestinationConnectorsApi, "getDestinationConnectors"), type: "VECTORIZE" },
    aiPlatformConnector: {
      id: await of(vendor.AIPlatformConnectorsApi, "getAIPlatformConnectors"), type: "VECTORIZE", config: {},
    },
    schedule: { type: "manual" },
  },
});
let found;
for (let turn = 0; turn < 500 && found === undefined; turn++) {
  found = await ask(created.data.id, "What do whales eat?").catch((error) => {
    assert.equal(error.response.status, 503);
  });
  if (found === undefined) await new Promise((done) => setTimeout(done, 20));
}
assert.equal(found.documents[0].text, "Blue whales eat krill");
assert.deepEqual(found.documents[0].metadata, { year: 1 });
await uploads.deleteFileFromConnector({ organizationId, connectorId, fileName: "whales.txt" });
console.log("upload -> pipeline -> retrieval: found with its metadata, deleted");
