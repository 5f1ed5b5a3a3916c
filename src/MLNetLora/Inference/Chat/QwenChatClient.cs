using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;
using MLNetLora.Text;
using AIMessage = Microsoft.Extensions.AI.ChatMessage;

namespace MLNetLora.Inference;

/// <summary>
/// A model of this library as the chat client of Microsoft.Extensions.AI: whole and streamed answers, functions that the model calls, thinking apart from the
/// answer, token counts. Thread-safe: requests that run at the same time are answered in one batch.
/// </summary>
/// <remarks>
/// <para>Functions are called by who wraps it: <c>client.AsBuilder().UseFunctionInvocation().Build()</c>; caching, logging and telemetry likewise. Messages and
/// options are read when the call is made and not changed.</para>
/// <para><see cref="ChatOptions"/>: Instructions are put before the system message, and with either of them the system prompt that an adapter was trained with
/// is not used. Temperature 0 is greedy; where Temperature is null, the checkpoint's generation_config.json says whether TopP and TopK have anything to choose
/// from. Reasoning.Effort None turns thinking off and every other one turns it on, where the chat template knows the difference; Reasoning.Output None leaves
/// the thinking out of the response. ToolMode None does not show the tools to the model; RequireAny and RequireSpecific hold the answer to calls.
/// ResponseFormat holds it to a JSON object, or to a schema; where there are tools, too, it is that or calls. AllowMultipleToolCalls false ends the answer
/// with the first call. Numbers of 64 bits as Seed are folded to 32. RawRepresentationFactory may give <see cref="GenerationOptions"/>, which stand in the
/// place of the client's defaults. AllowBackgroundResponses changes nothing, as no answer is generated in the background; ConversationId, ContinuationToken
/// and tools that are hosted by a service are refused.</para>
/// <para>AdditionalProperties with these keys are options of this library (<see cref="GenerationOptions"/> has them under its own names, which count too):
/// min_p, repetition_penalty, logit_bias (numbers by token ids), min_tokens, stop_token_ids, ignore_eos, continue_final_message (the messages end with the
/// assistant's), logprobs (true), top_logprobs, enable_thinking. Other keys are somebody else's and not looked at. Log probabilities come with the raw
/// representation.</para>
/// <para>A call that is not whole, because the model broke its JSON or the answer's length ended it, stays text: given out as a call, it would be run with
/// the arguments that it lacks left at their defaults.</para>
/// </remarks>
public sealed class QwenChatClient : IChatClient
{
    /// <summary>Tokens of an answer where nobody says: room for thinking, and an end to an answer that would find none.</summary>
    private const int MostNewTokens = 2048;

    private readonly IAnswerSource _source;
    private readonly ChatClientMetadata _metadata;
    private readonly string _modelId;
    private int _disposed;

    /// <summary>A client for a generator.</summary>
    /// <param name="generator">What answers.</param>
    /// <param name="modelId">The model's name, which every response bears, such as the adapter's; null for the name of the checkpoint's folder.</param>
    /// <param name="defaults">How answers are generated where a request does not say; copied. Null for the checkpoint's own settings and at most 2,048
    /// tokens.</param>
    /// <param name="ownsGenerator">Whether the generator is disposed with the client. Default false: others may use it.</param>
    /// <exception cref="OptionException">A default makes no sense.</exception>
    public QwenChatClient(TextGenerator generator, string? modelId = null, GenerationOptions? defaults = null, bool ownsGenerator = false)
        : this(Source(generator, defaults, ownsGenerator), modelId ?? Path.GetFileName(Path.TrimEndingDirectorySeparator(generator.Checkpoint.Folder)))
    {
    }

    internal QwenChatClient(IAnswerSource source, string modelId)
    {
        ArgumentException.ThrowIfNullOrWhiteSpace(modelId);
        (_source, _modelId) = (source, modelId);
        _metadata = new ChatClientMetadata("mlnetlora", providerUri: null, modelId);
    }

    /// <inheritdoc/>
    /// <exception cref="MLNetLoraException">The messages leave no room for an answer in the model's context, the chat template refuses them, or an option makes
    /// no sense.</exception>
    /// <exception cref="NotSupportedException">Messages or options ask for something that this client cannot do; the message says what.</exception>
    /// <exception cref="ObjectDisposedException">The client or its generator was disposed.</exception>
    public async Task<ChatResponse> GetResponseAsync(
        IEnumerable<AIMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        List<ChatResponseUpdate> updates = [];
        await foreach (ChatResponseUpdate update in GetStreamingResponseAsync(messages, options, cancellationToken).ConfigureAwait(false))
        {
            updates.Add(update);
        }

        ChatResponse response = updates.ToChatResponse();
        response.RawRepresentation = updates[^1].RawRepresentation;
        return response;
    }

    /// <inheritdoc/>
    /// <remarks>The last update has the finish reason and the token counts (<see cref="UsageContent"/>), and as its raw representation the whole
    /// <see cref="GeneratedText"/>; those before it have their <see cref="GeneratedChunk"/>. What <see cref="GetResponseAsync"/> throws, the enumeration
    /// throws.</remarks>
    public IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<AIMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        ThrowIfDisposed();
        AIMessage[] copy = [.. messages.Select(message => message?.Clone() ?? throw new ArgumentException("A message is null.", nameof(messages)))];
        return copy.Length > 0
            ? Updates(copy, options?.Clone(), cancellationToken)
            : throw new ArgumentException("There are no messages: nobody asks anything.", nameof(messages));
    }

    /// <summary>
    /// The client itself, its <see cref="ChatClientMetadata"/>, or what generates its answers (<see cref="TextGenerator"/>, or
    /// <see cref="TextGeneration.QwenLoraTransformer"/>).
    /// </summary>
    /// <param name="serviceType">The type that is wanted.</param>
    /// <param name="serviceKey">Null: nothing here has a key.</param>
    /// <returns>The object; null where there is none.</returns>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null
            : serviceType == typeof(ChatClientMetadata) ? _metadata
            : serviceType.IsInstanceOfType(this) ? this
            : _source.GetService(serviceType);
    }

    /// <summary>Ends the client; the generator too where the client owns it, which then gives no more answers.</summary>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _source.Dispose();
        }
    }

    private static GeneratorSource Source(TextGenerator generator, GenerationOptions? defaults, bool ownsGenerator)
    {
        ArgumentNullException.ThrowIfNull(generator);
        GenerationOptions copy = defaults?.Copy() ?? new GenerationOptions { MaximumNewTokens = MostNewTokens };
        copy.Validate();
        return new GeneratorSource(generator, copy, ownsGenerator);
    }

    private async IAsyncEnumerable<ChatResponseUpdate> Updates(
        AIMessage[] messages, ChatOptions? options, [EnumeratorCancellation] CancellationToken cancellation)
    {
        ThrowIfDisposed();
        TemplateFeatures features = await _source.OpenAsync(cancellation).ConfigureAwait(false);
        ChatRequest request = ChatRequest.From(options, this, _modelId, _source.Defaults, features);
        TextRow row = TextRow.Of(ChatMessages.ToConversation(messages, options?.Instructions, request.Tools), nameof(messages));
        ResponseContents contents = new(request);
        string id = $"chatcmpl-{Guid.NewGuid():N}";
        DateTimeOffset created = DateTimeOffset.UtcNow;
        await foreach (GeneratedChunk chunk in
            _source.AnswerAsync(row with { EnableThinking = request.EnableThinking }, request.Generation, cancellation).ConfigureAwait(false))
        {
            ChatFinishReason? finish = contents.Add(chunk);
            if (contents.Take() is { Count: > 0 } ready)
            {
                yield return new ChatResponseUpdate(ChatRole.Assistant, ready)
                {
                    ResponseId = id,
                    MessageId = id,
                    ModelId = _modelId,
                    CreatedAt = created,
                    FinishReason = finish,
                    RawRepresentation = chunk.Answer ?? (object)chunk,
                };
            }
        }
    }

    private void ThrowIfDisposed() => ObjectDisposedException.ThrowIf(Volatile.Read(ref _disposed) != 0, this);
}
