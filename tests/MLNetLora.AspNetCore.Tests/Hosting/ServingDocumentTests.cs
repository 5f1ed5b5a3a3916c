using System.Diagnostics.Metrics;
using System.Globalization;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.Builder;
using Microsoft.Extensions.DependencyInjection;
using MLNetLora.Tests;

namespace MLNetLora.AspNetCore.Tests.Hosting;

/// <summary>docs/serving.md and samples/ScoringService name what there is.</summary>
public sealed partial class ServingDocumentTests
{
    private static readonly string s_page = File.ReadAllText(Path.Combine(Repository.Root, "docs", "serving.md"));
    private static readonly string s_sample = Path.Combine(Repository.Root, "samples", "ScoringService");
    private static readonly string[] s_service = [.. typeof(ServingOptions).GetProperties().Select(property => property.Name)];
    private static readonly string[] s_model = [.. typeof(ServedModelOptions).GetProperties().Select(property => property.Name)];

    [Fact]
    public void The_page_has_every_setting()
    {
        foreach (string name in (string[])[.. s_service, .. s_model])
        {
            Assert.Contains($"| `{name}`", s_page.Replace("`, `", "` | `", StringComparison.Ordinal), StringComparison.Ordinal);
        }
    }

    [Fact]
    public async Task The_page_has_every_instrument()
    {
        List<string> names = [];
        await using TestService service = await TestService.StartAsync();
        IMeterFactory factory = service.Application.Services.GetRequiredService<IMeterFactory>();
        using MeterListener listener = new()
        {
            InstrumentPublished = (instrument, _) =>
            {
                if (ReferenceEquals(instrument.Meter.Scope, factory) && instrument.Meter.Name == ServingTelemetry.MeterName)
                {
                    names.Add(instrument.Name);
                }
            },
        };
        service.Get<ServingMetrics>();
        listener.Start();
        Assert.Equal(names.Order(), InstrumentRow().Matches(s_page).Select(match => match.Groups[1].Value).Order());
    }

    [Theory]
    [InlineData("README.md")]
    [InlineData("compose.yaml")]
    [InlineData("kubernetes/deployment.yaml")]
    public void Settings_in_the_sample_are_ones_that_there_are(string name)
    {
        string text = File.ReadAllText(Path.Combine(s_sample, name));
        string[] ofModels = [.. ModelVariable().Matches(text).Select(match => match.Groups[1].Value)];
        string[] ofService = [.. ServiceVariable().Matches(text).Select(match => match.Groups[1].Value)];
        Assert.NotEmpty(ofModels);
        Assert.All(ofModels, setting => Assert.Contains(setting, s_model));
        Assert.All(ofService, setting => Assert.Contains(setting, s_service));
    }

    [Theory]
    [InlineData("compose.yaml", @"stop_grace_period: (\d+)s", @"MLNetLora__(DrainDelay|DrainTimeout): ""([\d:]+)""")]
    [InlineData("kubernetes/deployment.yaml", @"terminationGracePeriodSeconds: (\d+)", @"MLNetLora__(DrainDelay|DrainTimeout), value: ""([\d:]+)""")]
    public void Who_ends_the_sample_waits_long_enough(string name, string grace, string drain)
    {
        string text = File.ReadAllText(Path.Combine(s_sample, name));
        double seconds = double.Parse(Regex.Match(text, grace).Groups[1].Value, CultureInfo.InvariantCulture);
        TimeSpan[] times = [.. Regex.Matches(text, drain).Select(match => TimeSpan.Parse(match.Groups[2].Value, CultureInfo.InvariantCulture))];
        Assert.Equal(2, times.Length);
        Assert.True(seconds > times.Sum(time => time.TotalSeconds) + 5);
    }

    [Fact]
    public async Task All_endpoints_stand_beside_each_other()
    {
        using TemporaryFolder folder = new();
        await using TestService service = await TestService.StartAsync(
            options => options.AdminKeys.Add("admin"),
            services: services => services.AddMLNetLora("support", model =>
            {
                model.ModelPath = Repository.Nano;
                model.Threads = 1;
                model.AdapterRoot = folder.Path;
            }),
            map: application =>
            {
                application.MapOpenAI();
                application.MapMLNetLoraAdapters();
                application.MapMLNetLoraPage();
            });
        await service.Get<ServingHost>().Models[0].Ready;
        TestAdapters.Write(folder.File("v1"));
        using HttpResponseMessage loaded = await service.PostAsync("/v1/load_lora_adapter", new { lora_name = "v1", lora_path = "v1" }, "admin");
        Assert.True(loaded.IsSuccessStatusCode, await loaded.Content.ReadAsStringAsync());
        using HttpResponseMessage answered = await service.PostAsync(
            "/v1/chat/completions", new { model = "v1", messages = (object[])[new { role = "user", content = "Hi" }], max_completion_tokens = 2 });
        Assert.True(answered.IsSuccessStatusCode, await answered.Content.ReadAsStringAsync());
        Assert.Contains("<html", await service.Client.GetStringAsync("/"), StringComparison.Ordinal);
    }

    [GeneratedRegex(@"^\| `((?:gen_ai|mlnetlora)\.[a-z_.]+)` \|", RegexOptions.Multiline)]
    private static partial Regex InstrumentRow();

    [GeneratedRegex(@"MLNetLora__Models__[A-Za-z0-9-]+__(\w+?)(?=\W)")]
    private static partial Regex ModelVariable();

    [GeneratedRegex(@"MLNetLora__(?!Models)(\w+?)(?=\W)")]
    private static partial Regex ServiceVariable();
}
