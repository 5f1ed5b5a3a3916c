using System.Runtime.CompilerServices;
using Microsoft.Extensions.AI;
using MLNetLora.Inference;

namespace MLNetLora.AspNetCore;

/// <summary>A base and its adapters as one chat client: ModelId of the options says which of them answers, the base where it says nothing.</summary>
/// <remarks>Calls wait until the model is loaded. They pass by the limits of HTTP, and are answered in the same batches.</remarks>
internal sealed class ServedChatClient(string baseName, ServingHost host, ModelRegistry registry) : IChatClient
{
    private readonly ChatClientMetadata _metadata = new(ServingMetrics.Provider, providerUri: null, baseName);

    /// <inheritdoc/>
    public async Task<ChatResponse> GetResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        using ModelLease lease = await LeaseAsync(options?.ModelId, cancellationToken).ConfigureAwait(false);
        using QwenChatClient client = new(lease.Generator, lease.Model.Name);
        return await client.GetResponseAsync(messages, options, cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public IAsyncEnumerable<ChatResponseUpdate> GetStreamingResponseAsync(
        IEnumerable<ChatMessage> messages, ChatOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(messages);
        return Updates([.. messages], options?.Clone(), cancellationToken);
    }

    /// <inheritdoc/>
    public object? GetService(Type serviceType, object? serviceKey = null)
    {
        ArgumentNullException.ThrowIfNull(serviceType);
        return serviceKey is not null ? null : serviceType == typeof(ChatClientMetadata) ? _metadata : serviceType.IsInstanceOfType(this) ? this : null;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        // The models are the registry's.
    }

    private async IAsyncEnumerable<ChatResponseUpdate> Updates(
        ChatMessage[] messages, ChatOptions? options, [EnumeratorCancellation] CancellationToken cancellation)
    {
        using ModelLease lease = await LeaseAsync(options?.ModelId, cancellation).ConfigureAwait(false);
        using QwenChatClient client = new(lease.Generator, lease.Model.Name);
        await foreach (ChatResponseUpdate update in client.GetStreamingResponseAsync(messages, options, cancellation).ConfigureAwait(false))
        {
            yield return update;
        }
    }

    private async Task<ModelLease> LeaseAsync(string? asked, CancellationToken cancellation)
    {
        await host.Models.Single(model => model.Name == baseName).Ready.WaitAsync(cancellation).ConfigureAwait(false);
        string name = asked ?? baseName;
        ModelLease? lease = registry.Lease(name);
        if (lease is not null && (lease.Model.Parent ?? lease.Model.Name) == baseName)
        {
            return lease;
        }

        lease?.Dispose();
        IEnumerable<string> served = registry.Models.Where(model => (model.Parent ?? model.Name) == baseName).Select(model => model.Name);
        throw new OptionException($"ModelId is '{name}'; it must be one of {string.Join(", ", served)}.");
    }
}
