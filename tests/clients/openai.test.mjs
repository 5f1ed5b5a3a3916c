// OpenAI's package for Node asks a service that runs: see README.md.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import OpenAI, { APIError, AuthenticationError, BadRequestError, NotFoundError } from 'openai';

const baseURL = process.env.BASE_URL ?? 'http://localhost:8080/v1';
const apiKey = process.env.API_KEY ?? 'none';
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: 'user', content: 'Name three colours.' }];
const model = process.env.MODEL ?? (await client.models.list()).data.find(one => !one.parent).id;

test('models are listed and found', async () => {
  const ids = [];
  for await (const one of client.models.list()) ids.push(one.id);
  assert.ok(ids.includes(model));
  assert.equal((await client.models.retrieve(model)).object, 'model');
});

test('a chat is answered, and streamed the same', async () => {
  const options = { model, messages, max_completion_tokens: 12, temperature: 0 };
  const whole = await client.chat.completions.create(options);
  assert.ok(whole.choices[0].message.content.length > 0);
  assert.ok(whole.usage.completion_tokens <= 12);
  let text = '', usage = null, reason = null;
  for await (const chunk of await client.chat.completions.create({ ...options, stream: true, stream_options: { include_usage: true } })) {
    text += chunk.choices[0]?.delta?.content ?? '';
    reason = chunk.choices[0]?.finish_reason ?? reason;
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(reason, whole.choices[0].finish_reason);
  assert.equal(usage.total_tokens, whole.usage.total_tokens);
});

test('the helper that collects a stream has the same answer', async () => {
  const options = { model, messages, max_tokens: 8, temperature: 0, n: 2 };
  const whole = await client.chat.completions.create(options);
  const collected = await client.chat.completions.stream(options).finalChatCompletion();
  assert.deepEqual(collected.choices.map(choice => choice.message.content), whole.choices.map(choice => choice.message.content));
});

test('log probabilities come with their tokens', async () => {
  const answer = await client.chat.completions.create({ model, messages, max_tokens: 4, temperature: 0, logprobs: true, top_logprobs: 2 });
  const tokens = answer.choices[0].logprobs.content;
  assert.equal(tokens.map(one => one.token).join(''), answer.choices[0].message.content);
  assert.ok(tokens.every(one => one.top_logprobs.length === 2 && one.logprob <= 0));
  assert.equal(Buffer.from(tokens.flatMap(one => one.bytes)).toString(), answer.choices[0].message.content);
});

test('an answer is what a schema says', async () => {
  const schema = { type: 'object', properties: { colour: { enum: ['red', 'green'] } }, required: ['colour'], additionalProperties: false };
  const answer = await client.chat.completions.create({
    model, messages, max_tokens: 40, response_format: { type: 'json_schema', json_schema: { name: 'colour', schema, strict: true } },
  });
  assert.ok(['red', 'green'].includes(JSON.parse(answer.choices[0].message.content).colour));
});

test('texts are gone on with', async () => {
  const answer = await client.completions.create({ model, prompt: ['One two', 'Three'], max_tokens: 4, echo: true, logprobs: 1 });
  assert.deepEqual(answer.choices.map(choice => choice.text.startsWith(['One two', 'Three'][choice.index])), [true, true]);
  let text = '';
  for await (const chunk of await client.completions.create({ model, prompt: 'One two', max_tokens: 4, temperature: 0, stream: true })) {
    text += chunk.choices[0]?.text ?? '';
  }
  assert.ok(text.length > 0);
});

test('errors have their classes', async () => {
  await assert.rejects(client.chat.completions.create({ model: 'nobody', messages }), error => error instanceof NotFoundError && error.code === 'model_not_found');
  await assert.rejects(client.chat.completions.create({ model, messages, temperature: 9 }), error => error instanceof BadRequestError && error.param === 'temperature');
  await assert.rejects(client.chat.completions.create({ model, messages: [{ role: 'user', content: 'word '.repeat(200000) }] }), BadRequestError);
  if (process.env.API_KEY) {
    await assert.rejects(new OpenAI({ baseURL, apiKey: 'wrong', maxRetries: 0 }).models.list(), AuthenticationError);
  }
});

test('a stream that is left ends', async () => {
  const stream = await client.chat.completions.create({ model, messages, ignore_eos: true, stream: true });
  for await (const _ of stream) break;
  await assert.rejects(client.chat.completions.create({ model, messages }, { signal: AbortSignal.timeout(1) }), error => error instanceof APIError);
});
