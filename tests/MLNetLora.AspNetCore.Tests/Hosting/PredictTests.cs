using System.Net;
using System.Text.Json;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Options;
using Microsoft.ML;
using MLNetLora.Tests;
using MLNetLora.TextGeneration;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>A model zip behind /predict.</summary>
public sealed class PredictTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly string _zip;

    public PredictTests() => _zip = _folder.File("model.zip");

    public void Dispose() => _folder.Dispose();

    [Fact]
    public async Task A_row_is_answered_as_the_model_answers_it()
    {
        string expected = Save(seed: 1, answer: "Reply");
        await using TestService service = await StartAsync();
        JsonElement answer = await AnswerAsync(await service.PostAsync("/predict", new { instruction = "Who are you?", Input = "", output = "a label" }));
        Assert.Equal(expected, answer.GetProperty("reply").GetString());
        Assert.Contains(answer.GetProperty("finishReason").GetString(), (string[])["stop", "length"]);
        Assert.True(answer.GetProperty("promptTokens").GetInt32() > 0 && answer.GetProperty("newTokens").GetInt32() > 0);
    }

    [Fact]
    public async Task Input_system_history_and_conversation_reach_the_model()
    {
        Save(seed: 1);
        await using TestService service = await StartAsync();
        using QwenLoraTransformer model = new MLContext().TextGeneration.Load(_zip);
        Text.InstructionRow row = new("Who?", Input: "in", System: "Be brief.", History: [new Text.InstructionTurn("a", "b")]);
        string expected = model.Generate([row])[0].Text;
        object body = new { Instruction = "Who?", Input = "in", System = "Be brief.", History = (string[][])[["a", "b"]] };
        Assert.Equal(expected, (await AnswerAsync(await service.PostAsync("/predict", body))).GetProperty("answer").GetString());
        Assert.NotEqual(expected, (await AnswerAsync(await service.PostAsync("/predict", new { Instruction = "Who?" }))).GetProperty("answer").GetString());

        string told = model.Generate(new Text.Conversation([new Text.ChatMessage("user", "Who?")]));
        object conversation = new { Conversation = "{\"messages\":[{\"role\":\"user\",\"content\":\"Who?\"}]}" };
        Assert.Equal(told, (await AnswerAsync(await service.PostAsync("/predict", conversation))).GetProperty("answer").GetString());
    }

    [Theory]
    [InlineData("[]", "object")]
    [InlineData("{", "JSON")]
    [InlineData("{}", "Instruction")]
    [InlineData("{\"instruction\":5}", "Instruction")]
    [InlineData("{\"instruction\":\"\\ud800\"}", "half a character")]
    [InlineData("{\"\\ud800\":\"a\",\"instruction\":\"a\"}", "half a character")]
    [InlineData("{\"instruction\":\"a\",\"history\":\"{\"}", "history")]
    [InlineData("{\"instruction\":\"a\",\"conversation\":\"[]\"}", "not both")]
    public async Task A_row_that_is_none_is_told_why(string body, string part)
    {
        Save(seed: 1);
        await using TestService service = await StartAsync();
        JsonElement error = await TestService.ErrorAsync(
            HttpStatusCode.BadRequest, await service.Client.PostAsync("/predict", Json(body)));
        Assert.Contains(part, error.GetRawText(), StringComparison.OrdinalIgnoreCase);
    }

    [Theory]
    [InlineData("text/plain")]
    [InlineData("application/x-www-form-urlencoded")]
    [InlineData("application/json; charset=utf-16")]
    public async Task What_a_page_of_somebody_else_can_send_is_not_read(string type)
    {
        Save(seed: 1);
        await using TestService service = await StartAsync();
        using StringContent body = Json("{\"instruction\":\"Who?\"}");
        body.Headers.ContentType = System.Net.Http.Headers.MediaTypeHeaderValue.Parse(type);
        JsonElement error = await TestService.ErrorAsync(HttpStatusCode.UnsupportedMediaType, await service.Client.PostAsync("/predict", body));
        Assert.Equal("unsupported_content_type", error.GetProperty("code").GetString());
    }

    [Fact]
    public async Task A_prompt_that_is_too_long_is_an_error_of_the_request()
    {
        Save(seed: 1);
        await using TestService service = await StartAsync();
        JsonElement error = await TestService.ErrorAsync(
            HttpStatusCode.BadRequest, await service.PostAsync("/predict", new { instruction = string.Concat(Enumerable.Repeat("word ", 50_000)) }));
        Assert.Equal("context_length_exceeded", error.GetProperty("code").GetString());
    }

    [Fact]
    public async Task The_key_and_the_limits_are_those_of_the_service()
    {
        Save(seed: 1);
        await using TestService service = await StartAsync(options => options.ApiKeys.Add("key"));
        await TestService.ErrorAsync(HttpStatusCode.Unauthorized, await service.PostAsync("/predict", new { instruction = "a" }));
        await AnswerAsync(await service.PostAsync("/predict", new { instruction = "a" }, "key"));
    }

    [Fact]
    public async Task Holders_of_different_keys_do_not_find_each_other_s_prompts()
    {
        Save(seed: 1);
        await using TestService service = await StartAsync(options =>
        {
            options.ApiKeys.Add("one");
            options.ApiKeys.Add("two");
        });
        foreach (string key in (string[])["one", "one", "two"])
        {
            await AnswerAsync(await service.PostAsync("/predict", new { instruction = string.Concat(Enumerable.Repeat("Who are you? ", 20)) }, key));
        }

        await TestService.UntilAsync(() => service.Log.Text.Split("cached)").Length == 4);
        Assert.Equal([true, false, true], service.Log.Text.Split("cached)")[..3].Select(part => part.EndsWith("(0 ", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Another_zip_is_taken_and_a_request_ends_with_the_model_that_it_began_with()
    {
        string one = Save(seed: 1);
        await using TestService service = await StartAsync();
        ServedModelFile file = service.Get<ServedModelFile>();
        TaskCompletionSource go = new();
        QwenLoraTransformer? kept = null;
        Task<string> old = file.UseAsync(async model =>
        {
            kept = model;
            await go.Task;
            return model.Generate("Who are you?");
        });
        string two = Save(seed: 2);
        Assert.NotEqual(one, two);
        await file.LookAsync(CancellationToken.None);
        Assert.Equal(one, await AskAsync(service));
        await file.LookAsync(CancellationToken.None);
        Assert.Equal(two, await AskAsync(service));
        go.SetResult();
        Assert.Equal(one, await old);
        Assert.Throws<ObjectDisposedException>(() => kept!.Generate("Who are you?"));
    }

    [Fact]
    public async Task A_zip_that_is_bad_or_gone_leaves_the_old_model_in_its_place()
    {
        string one = Save(seed: 1);
        await using TestService service = await StartAsync();
        ServedModelFile file = service.Get<ServedModelFile>();
        await File.WriteAllTextAsync(_zip, "no zip");
        await LookAsync();
        Assert.Equal(one, await AskAsync(service));
        (HttpStatusCode status, JsonElement health) = await service.ReadyAsync();
        Assert.Equal((HttpStatusCode.OK, "degraded"), (status, health.GetProperty("status").GetString()));
        Assert.Contains("is refused", service.Log.Text, StringComparison.Ordinal);
        File.Delete(_zip);
        await LookAsync();
        Assert.Equal(one, await AskAsync(service));
        string two = Save(seed: 2);
        await LookAsync();
        Assert.Equal(two, await AskAsync(service));
        Assert.Equal("ok", (await service.ReadyAsync()).Body.GetProperty("status").GetString());

        async Task LookAsync()
        {
            for (int i = 0; i < 3; i++)
            {
                await file.LookAsync(CancellationToken.None);
            }
        }
    }

    [Fact]
    public async Task A_zip_that_there_was_no_memory_for_is_tried_again()
    {
        string one = Save(seed: 1);
        bool isShort = false;
        await using TestService service = await StartAsync(change: _ =>
        {
            if (isShort)
            {
                throw new NativeMemoryException("There is none.");
            }
        });
        ServedModelFile file = service.Get<ServedModelFile>();
        string two = Save(seed: 2);
        isShort = true;
        await LookAsync(2);
        Assert.Equal("degraded", (await service.ReadyAsync()).Body.GetProperty("status").GetString());
        await LookAsync(AdapterWatcher.LooksBetweenTries); // tried in vain once more
        isShort = false;
        await LookAsync(AdapterWatcher.LooksBetweenTries - 1);
        Assert.Equal(one, await AskAsync(service));
        await LookAsync(1);
        Assert.Equal(two, await AskAsync(service));
        Assert.Equal("ok", (await service.ReadyAsync()).Body.GetProperty("status").GetString());

        async Task LookAsync(int times)
        {
            for (int i = 0; i < times; i++)
            {
                await file.LookAsync(CancellationToken.None);
            }
        }
    }

    [Fact]
    public async Task A_zip_that_was_away_for_a_moment_is_well_again()
    {
        string one = Save(seed: 1);
        await using TestService service = await StartAsync();
        ServedModelFile file = service.Get<ServedModelFile>();
        string aside = _folder.File("aside.zip");
        File.Move(_zip, aside);
        await file.LookAsync(CancellationToken.None);
        Assert.Equal("degraded", (await service.ReadyAsync()).Body.GetProperty("status").GetString());
        File.Move(aside, _zip);
        await file.LookAsync(CancellationToken.None);
        await file.LookAsync(CancellationToken.None);
        Assert.Equal("ok", (await service.ReadyAsync()).Body.GetProperty("status").GetString());
        Assert.Equal(one, await AskAsync(service));
    }

    [Fact]
    public async Task A_rename_is_seen_by_itself()
    {
        Save(seed: 1);
        await using TestService service = await StartAsync(period: TimeSpan.FromMilliseconds(20));
        string two = Save(seed: 2);
        await TestService.UntilAsync(() => AskAsync(service).Result == two);
    }

    [Fact]
    public async Task Several_files_have_names_of_their_own()
    {
        string one = Save(seed: 1);
        string other = _folder.File("other.zip");
        File.Copy(_zip, other);
        string two = Save(seed: 2);
        Assert.NotEqual(one, two);
        await using TestService service = await TestService.StartAsync(
            services: all => all
                .AddMLNetLoraModelFile(_zip, "new")
                .AddMLNetLoraModelFile(other, "old", options => options.Change = model => model.Generation.MaximumNewTokens = 1),
            map: application =>
            {
                application.MapPredict();
                application.MapPredict("/old", "old");
            });
        await TestService.UntilAsync(() => service.State.Issues.Count == 0);
        Assert.Equal(two, await AskAsync(service));
        Assert.Equal(1, (await AnswerAsync(await service.PostAsync("/old", new { instruction = "Who are you?" }))).GetProperty("newTokens").GetInt32());
        Assert.Equal(one, await service.Application.Services.GetRequiredKeyedService<ServedModelFile>("old").UseAsync(
            model => Task.FromResult(model.Generate("Who are you?", null, new Inference.GenerationOptions { MaximumNewTokens = 8, Temperature = 0 }))));
        Assert.Throws<OptionException>(() => new ServiceCollection().AddMLNetLoraModelFile(_zip).AddMLNetLoraModelFile(_zip));
    }

    [Fact]
    public async Task What_is_wrong_with_a_file_is_said_at_the_start()
    {
        OptionsValidationException error = await Assert.ThrowsAsync<OptionsValidationException>(() => TestService.StartAsync(
            services: all => all.AddMLNetLoraModelFile(_zip, configure: options => options.WatchPeriod = TimeSpan.Zero)));
        Assert.Equal(2, error.Failures.Count());
        InvalidOperationException none = await Assert.ThrowsAsync<InvalidOperationException>(
            () => TestService.StartAsync(map: application => application.MapPredict()));
        Assert.Contains("AddMLNetLoraModelFile", none.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_base_is_looked_for_where_the_options_say()
    {
        string copy = _folder.File("base");
        TestAdapters.Copy(Repository.Nano, copy);
        string adapter = TestAdapters.Write(_folder.File("adapter"));
        using (QwenLoraTransformer model = new MLContext().TextGeneration.LoadAdapter(copy, adapter))
        {
            model.Save(_zip);
        }

        Directory.Move(copy, _folder.File("moved"));
        await using TestService service = await TestService.StartAsync(
            services: all => all.AddMLNetLoraModelFile(_zip, configure: options => options.BaseModel = _folder.File("moved")),
            map: application => application.MapPredict());
        await TestService.UntilAsync(() => service.State.Issues.Count == 0);
        await AskAsync(service);
    }

    private static void Quick(QwenLoraTransformer.Options options) => options.Threads = 1;

    private static StringContent Json(string body) => new(body, System.Text.Encoding.UTF8, "application/json");

    private async Task<TestService> StartAsync(
        Action<ServingOptions>? options = null, TimeSpan? period = null, Action<QwenLoraTransformer.Options>? change = null)
    {
        TestService service = await TestService.StartAsync(
            options,
            services: all => all.AddMLNetLoraModelFile(_zip, configure: file =>
            {
                file.WatchPeriod = period ?? TimeSpan.FromDays(1);
                file.Change = Quick + change;
            }),
            map: application => application.MapPredict());
        await TestService.UntilAsync(() => service.State.Issues.Count == 0);
        return service;
    }

    /// <summary>Writes a zip in the place of another, in one step.</summary>
    /// <returns>What it answers.</returns>
    private string Save(int seed, string? answer = null)
    {
        string adapter = TestAdapters.Write(_folder.File($"adapter-{seed}"), seed);
        using QwenLoraTransformer model = new MLContext().TextGeneration.LoadAdapter(Repository.Nano, adapter, change: options =>
        {
            Quick(options);
            options.Generation = new Inference.GenerationOptions { MaximumNewTokens = 8, Temperature = 0 };
            options.AnswerColumnName = answer ?? options.AnswerColumnName;
        });
        model.Save(_zip);
        return model.Generate("Who are you?");
    }

    private static async Task<string> AskAsync(TestService service, string path = "/predict") =>
        (await AnswerAsync(await service.PostAsync(path, new { instruction = "Who are you?" }))).GetProperty("answer").GetString()!;

    private static async Task<JsonElement> AnswerAsync(HttpResponseMessage response)
    {
        string text = await response.Content.ReadAsStringAsync();
        Assert.True(response.StatusCode == HttpStatusCode.OK, text);
        return JsonDocument.Parse(text).RootElement;
    }
}
