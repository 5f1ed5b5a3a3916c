using Microsoft.Extensions.AI;
using MLNetLora.Inference;
using MLNetLora.Text;
using MLNetLora.TextGeneration;

namespace MLNetLora.Tests.TextGeneration;

/// <summary>A trained model as a chat client.</summary>
public sealed class TransformerChatTests : IDisposable
{
    private readonly Workbench _bench = new();

    public void Dispose() => _bench.Dispose();

    [Fact]
    public async Task A_model_is_loaded_with_the_first_request_and_answers_as_its_options_say()
    {
        using QwenLoraTransformer model = _bench.Model();
        using QwenChatClient client = model.AsChatClient();
        Assert.False(model.IsOpen);
        Assert.Same(model, client.GetService<QwenLoraTransformer>());

        ChatResponse response = await client.GetResponseAsync("what");

        Assert.Equal(_bench.Answer(new Conversation([MLNetLora.Text.ChatMessage.User("what")])), response.Text);
        Assert.Equal(("base", 6), (response.ModelId, response.Usage!.OutputTokenCount));
        Assert.True(model.IsOpen);
    }

    [Fact]
    public async Task The_client_leaves_the_model_open_and_ends_with_it()
    {
        using QwenLoraTransformer model = _bench.Model();
        using QwenChatClient client = model.AsChatClient("mine");
        Assert.Equal("mine", (await client.GetResponseAsync("what")).ModelId);
        client.Dispose();
        Assert.NotNull(model.Generate("what"));

        using QwenChatClient other = model.AsChatClient();
        model.Dispose();
        await Assert.ThrowsAsync<ObjectDisposedException>(() => other.GetResponseAsync("what"));
    }

    [Fact]
    public async Task A_request_ends_with_the_model_s_own_token()
    {
        using CancellationTokenSource source = new();
        using QwenLoraTransformer model = _bench.Model().With(source.Token);
        using QwenChatClient client = model.AsChatClient();
        await source.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => client.GetResponseAsync("what"));
    }
}
